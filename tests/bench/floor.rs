//! What the disk itself takes.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

/// The median of appending so many bytes and an fdatasync, in milliseconds.
pub(crate) fn fdatasync(folder: &Path, bytes: usize) -> Result<f64> {
    let mut file = std::fs::File::create(folder.join("floor"))?;
    let record = vec![7; bytes];
    let mut times = Vec::new();
    for _ in 0..500 {
        let began = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
