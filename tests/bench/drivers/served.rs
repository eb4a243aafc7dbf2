//! Far ends of drivers that connect over TCP: each answers at once.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::PAYLOAD;

/// Where the folder says which address it is.
fn note(folder: &Path) -> PathBuf {
    folder.join("address")
}

/// Of the far end that was started with this folder.
pub(super) fn address(folder: &Path) -> String {
    std::fs::read_to_string(note(folder)).expect("a far end was started")
}

/// `speak` is called with each connection, in a thread of its own, and ends with it.
fn serve(folder: &Path, speak: fn(TcpStream) -> std::io::Result<()>) -> Result<Box<dyn Any + Send>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    std::fs::write(note(folder), listener.local_addr()?.to_string())?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || stream.set_nodelay(true).and_then(|()| speak(stream)));
        }
    });
    Ok(Box::new(()))
}

/// Units whose registers hold the payload.
pub(super) fn modbus(folder: &Path) -> Result<Box<dyn Any + Send>> {
    serve(folder, |mut stream| {
        let mut request = [0; 12];
        let size = u8::try_from(PAYLOAD.len()).expect("it fits into a request");
        loop {
            stream.read_exact(&mut request)?;
            let head = [&request[..2], &[0, 0, 0, size + 3, request[6], 3, size]].concat();
            stream.write_all(&[&head, PAYLOAD.as_bytes()].concat())?;
        }
    })
}

/// The smallest thing that passes for a picture, with a comment to be 200 bytes.
pub(super) fn camera(folder: &Path) -> Result<Box<dyn Any + Send>> {
    serve(folder, |mut stream| {
        let frame = b"\xff\xc0\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0";
        let tables = b"\xff\xc4\0\x03\0";
        let scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0";
        let note = [&b"\xff\xfe\0\xa6"[..], &[b'x'; 164]].concat();
        let picture = [b"\xff\xd8", &note[..], tables, frame, scan, b"\xff\xd9"].concat();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            picture.len()
        );
        let answer = [head.as_bytes(), &picture].concat();
        let (mut request, mut read) = ([0; 4096], 0);
        loop {
            match stream.read(&mut request[read..])? {
                0 => return Ok(()),
                more => read += more,
            }
            if request[..read].ends_with(b"\r\n\r\n") {
                stream.write_all(&answer)?;
                read = 0;
            }
        }
    })
}

/// A broker (3.1.1) that publishes, with quality of service 1, once the message before is acknowledged.
pub(super) fn mqtt(folder: &Path) -> Result<Box<dyn Any + Send>> {
    serve(folder, |mut stream| {
        let publish = [b"\x32\xcd\x01\0\x01a\0\x01", PAYLOAD.as_bytes()].concat();
        loop {
            let mut head = [0; 2];
            stream.read_exact(&mut head)?;
            // What is longer than 127 bytes a client of one short filter does not say.
            let mut body = vec![0; head[1].into()];
            stream.read_exact(&mut body)?;
            match head[0] >> 4 {
                1 => stream.write_all(b"\x20\x02\0\0")?,
                8 => {
                    stream.write_all(&[&[0x90, 3, body[0], body[1], 1], &publish[..]].concat())?;
                }
                4 => stream.write_all(&publish)?,
                _ => {}
            }
        }
    })
}
