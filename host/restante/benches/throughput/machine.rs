//! What this machine can do without a server: the yardsticks.

use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Datagrams received and sent back.
pub struct Echo {
    pub per_second: f64,
    /// CPU of the echoing thread for one.
    pub micros: f64,
}

/// Receives datagrams of a MESSAGE's size and sends them back, one by one.
pub fn udp_echo(time: Duration) -> Result<Echo> {
    let echo = UdpSocket::bind("127.0.0.1:0")?;
    let place = echo.local_addr()?;
    let echoing = std::thread::spawn(move || -> Result<f64> {
        let began = thread_cpu_seconds();
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = echo.recv_from(&mut buffer)?;
            if length == 1 {
                return Ok(thread_cpu_seconds() - began);
            }
            echo.send_to(buffer.get(..length).unwrap_or_default(), from)?;
        }
    });
    let asking = UdpSocket::bind("127.0.0.1:0")?;
    asking.connect(place)?;
    asking.set_read_timeout(Some(Duration::from_secs(1)))?;
    let datagram = [b'x'; 800];
    let (began, mut count) = (Instant::now(), 0u32);
    let mut buffer = [0; 2048];
    for _ in 0..32 {
        asking.send(&datagram)?;
    }
    while began.elapsed() < time {
        asking.recv(&mut buffer)?;
        asking.send(&datagram)?;
        count += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    asking.send(b"x")?;
    let cpu = echoing.join().map_err(|_| anyhow!("the echo thread is gone"))??;
    Ok(Echo { per_second: f64::from(count) / seconds, micros: cpu * 1e6 / f64::from(count) })
}

/// Appends and waits for the disk, per second.
pub fn fdatasync(directory: &Path, time: Duration) -> Result<f64> {
    let path = directory.join("fdatasync");
    let mut file = std::fs::File::create(&path)?;
    let (began, mut count) = (Instant::now(), 0u32);
    while began.elapsed() < time {
        file.write_all(&[b'x'; 1024])?;
        file.sync_data()?;
        count += 1;
    }
    std::fs::remove_file(path)?;
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// CPU seconds of this thread: the first number of its schedstat, in nanoseconds.
fn thread_cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
