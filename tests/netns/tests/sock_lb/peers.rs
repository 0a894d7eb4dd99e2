//! Servers that say who they are, and clients that ask.

use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(5);
/// How often a server looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);

/// TCP and UDP servers, each on one address, that answer with that address; they end when this is dropped.
pub(crate) struct Servers {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Starts a TCP and a UDP server on each address, in this thread's namespace.
    pub(crate) fn start(addresses: &[&str]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for address in addresses {
            let tcp = TcpListener::bind(address).unwrap_or_else(|error| panic!("tcp {address}: {error}"));
            let udp = UdpSocket::bind(address).unwrap_or_else(|error| panic!("udp {address}: {error}"));
            SockRef::from(&tcp).set_read_timeout(Some(LOOK)).unwrap();
            udp.set_read_timeout(Some(LOOK)).unwrap();
            let name = (*address).to_owned();
            let (tcp_name, tcp_end) = (name.clone(), Arc::clone(&end));
            threads.push(thread::spawn(move || {
                while !tcp_end.load(Ordering::Relaxed) {
                    if let Ok((mut stream, _)) = tcp.accept() {
                        let _client_left = stream.write_all(tcp_name.as_bytes());
                    }
                }
            }));
            let udp_end = Arc::clone(&end);
            threads.push(thread::spawn(move || {
                while !udp_end.load(Ordering::Relaxed) {
                    if let Ok((_, from)) = udp.recv_from(&mut [0; 64]) {
                        udp.send_to(name.as_bytes(), from).unwrap();
                    }
                }
            }));
        }
        Self { end, threads }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking(), "a server panicked");
        }
    }
}

/// Connects, and returns which server answered and whom the socket takes for its peer.
pub(crate) fn tcp(to: &str) -> io::Result<(String, SocketAddr)> {
    let mut stream = TcpStream::connect(to)?;
    let peer = stream.peer_addr()?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut name = String::new();
    stream.read_to_string(&mut name)?;
    Ok((name, peer))
}

/// A UDP socket that waits for answers no longer than the deadline.
pub(crate) fn udp(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Sends a datagram from an unconnected socket, and returns which server answered and whom the answer is
/// from.
pub(crate) fn ask(socket: &UdpSocket, to: &str) -> io::Result<(String, SocketAddr)> {
    socket.send_to(b"who", to)?;
    receive(socket)
}

/// Sends a datagram from a connected socket, and returns which server answered and whom the answer is from.
pub(crate) fn ask_connected(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    socket.send(b"who")?;
    receive(socket)
}

fn receive(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok((String::from_utf8(buffer[..length].to_vec()).unwrap(), from))
}
