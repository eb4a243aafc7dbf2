//! How many rows refer to each file of a large payload. It changes with the rows, in one transaction.

use redb::ReadableTable;

use crate::apply::Batch;
use crate::digest::Digest;

type Result<T, E = redb::Error> = std::result::Result<T, E>;

impl Batch<'_> {
    /// A row refers to the file from now on, if there is one.
    pub(crate) fn refer(&mut self, file: Option<Digest>) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let table = self.tables.payloads()?;
        let rows = table.get(file.as_bytes())?.map_or(0, |rows| rows.value());
        table.insert(file.as_bytes(), rows + 1)?;
        self.ledger.payloads += u64::from(rows == 0);
        Ok(())
    }

    /// A row that referred to it is gone.
    pub(crate) fn refer_no_more(&mut self, file: Option<Digest>) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let table = self.tables.payloads()?;
        let rows = table.get(file.as_bytes())?.map_or(0, |rows| rows.value());
        match rows {
            // Nothing is known to refer to it, as for those who tidy up: to fail would only fail others, and again.
            0 => {
                tracing::error!(payload = %file, "nothing was known to refer to it");
                self.unreferred.push(file);
            }
            1 => {
                table.remove(file.as_bytes())?;
                self.ledger.payloads -= 1;
                self.unreferred.push(file);
            }
            _ => drop(table.insert(file.as_bytes(), rows - 1)?),
        }
        Ok(())
    }
}
