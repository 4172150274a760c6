//! The hosts' HTTP: just enough for curl, one request a connection.
//!
//! - `/bytes/N` sends N octets, at most 64 MiB.
//! - `/drip` sends a line every 100 ms for ten minutes: a transfer that outlives what happens to the
//!   node.
//! - Anything else says which host was reached, at which address, from where.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

const HEAD_LIMIT: usize = 8 << 10;
const BYTES_LIMIT: usize = 64 << 20;
const DRIPS: u32 = 6_000;
const DRIP_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn serve(mut stream: TcpStream, banner: &str) -> io::Result<()> {
    let Some(head) = read_head(&mut stream).await? else {
        return respond(&mut stream, "400 Bad Request", b"not a request\n").await;
    };
    let path = head.split(' ').nth(1).unwrap_or("/");
    if path == "/drip" {
        return drip(&mut stream).await;
    }
    if let Some(count) = path.strip_prefix("/bytes/").and_then(|count| count.parse().ok()) {
        return respond(&mut stream, "200 OK", &vec![b'x'; BYTES_LIMIT.min(count)]).await;
    }
    let here = stream.local_addr()?.ip().to_canonical();
    let there = stream.peer_addr()?.ip().to_canonical();
    let body = format!("{banner} at {here}, asked by {there} for {path}\n");
    respond(&mut stream, "200 OK", body.as_bytes()).await
}

/// The request's head as text; nothing if it is too long, cut off or not text.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let length = stream.read(&mut buffer).await?;
        if length == 0 || head.len() + length > HEAD_LIMIT {
            return Ok(None);
        }
        head.extend_from_slice(&buffer[..length]);
    }
    Ok(String::from_utf8(head).ok())
}

async fn respond(stream: &mut TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

async fn drip(stream: &mut TcpStream) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for drop in 0..DRIPS {
        stream.write_all(format!("drop {drop}\n").as_bytes()).await?;
        sleep(DRIP_PAUSE).await;
    }
    stream.shutdown().await
}
