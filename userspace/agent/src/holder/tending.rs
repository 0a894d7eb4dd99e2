//! What the holder does for the other nodes while its agent is away: it answers their gossip, for a limited time.

use super::presence::Presence;
use super::protocol::Charge;
use crate::keys::random;
use essaim_gossip::{Caretaker, Epoch};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// The most bytes of a datagram.
const LARGEST: usize = 65_536;
/// How many datagrams are answered before connections have their turn.
const BATCH: usize = 64;

/// Answers for the agent's node, at a copy of the socket that the agent itself reads while it is there.
pub(super) struct Tending {
    caretaker: Caretaker,
    socket: UdpSocket,
    agent: Presence,
}

impl Tending {
    /// For the agent of this connection; says why not.
    pub(super) fn new(charge: Charge, socket: BorrowedFd<'_>, connection: RawFd) -> Result<Self, String> {
        let Charge {
            node,
            epoch,
            keys,
            limit_ms,
        } = charge;
        let keys = keys.ring()?;
        let seed = random().map_err(|error| format!("the system gave no randomness: {error}"))?;
        let copy: io::Result<OwnedFd> = socket.try_clone_to_owned();
        let socket = copy.map_err(|error| format!("the socket cannot be copied: {error}"))?;
        Ok(Self {
            caretaker: Caretaker::new(node, Epoch::from_number(epoch), keys, seed),
            socket: UdpSocket::from(socket),
            agent: Presence::new(connection, Duration::from_millis(limit_ms)),
        })
    }

    /// A connection has ended.
    pub(super) fn ended(&mut self, connection: RawFd, now: Instant) {
        self.agent.ended(connection, now);
    }

    /// The socket to wait at, and until when, while the agent is away.
    pub(super) fn awaited(&self) -> Option<(BorrowedFd<'_>, Instant)> {
        Some((self.socket.as_fd(), self.agent.awaited()?))
    }

    /// Answers what has come.
    pub(super) fn answer(&mut self) {
        let mut buffer = vec![0; LARGEST];
        for _ in 0..BATCH {
            let (length, from) = match self.receive(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An earlier answer's ICMP error: it is taken off by the read.
                Err(_) => continue,
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Ok(Some(answer)) = self.caretaker.answer(datagram) {
                // What the system does not take now is lost, as on the way: the question is repeated.
                let _ = self.socket.send_to(&answer, from);
            }
        }
    }

    /// The agent may have left the socket in either mode.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, std::net::SocketAddr)> {
        self.socket.set_nonblocking(true)?;
        self.socket.recv_from(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyFile;
    use essaim_gossip::{Action, Config, Gossip, Key, KeyRing, MemberState, Start};
    use essaim_model::NodeName;
    use std::collections::BTreeMap;

    fn charge(keys: &KeyRing) -> Charge {
        Charge {
            node: NodeName::new("b").unwrap(),
            epoch: 9,
            keys: KeyFile::from(keys),
            limit_ms: 1_000,
        }
    }

    #[test]
    fn it_answers_from_the_end_of_its_agents_connection_until_the_limit() {
        let keys = KeyRing::new(Key::new([1; 32]));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut tending = Tending::new(charge(&keys), socket.as_fd(), 5).unwrap();
        assert!(tending.awaited().is_none());
        let now = Instant::now();
        tending.ended(6, now);
        assert!(tending.awaited().is_none());
        tending.ended(5, now);
        assert_eq!(
            tending.awaited().map(|(_, until)| until),
            Some(now + Duration::from_secs(1))
        );

        // A peer's core, whose probe is answered.
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let start = Start {
            name: NodeName::new("a").unwrap(),
            last_epoch: Epoch::UNHEARD,
            wall_clock_ms: 1,
            seed: [2; 32],
            keys,
            config: Config::default(),
        };
        let mut core = Gossip::new(start, now);
        let b = NodeName::new("b").unwrap();
        core.set_peers(&BTreeMap::from([(b.clone(), socket.local_addr().unwrap())]), now);
        let due = core.poll_timeout().unwrap() + Duration::from_secs(2);
        core.handle_timeout(due);
        while let Some(action) = core.poll_action() {
            if let Action::Send { to, datagram } = action {
                peer.send_to(&datagram, to).unwrap();
            }
        }
        peer.send_to(b"noise", socket.local_addr().unwrap()).unwrap();
        tending.answer();
        let mut buffer = [0; 2048];
        let length = peer.recv(&mut buffer).unwrap();
        core.handle_datagram(&buffer[..length], due).unwrap();
        let shown = &core.view().members[&b];
        assert_eq!((shown.state, shown.epoch.number()), (MemberState::Alive, 9));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let text = r#"{"node":"b","epoch":1,"keys":{"primary":"abc"},"limit_ms":1}"#;
        let charge: Charge = serde_json::from_str(text).unwrap();
        let refused = Tending::new(charge, socket.as_fd(), 1).err().unwrap();
        assert!(refused.contains("primary is not 64"), "{refused}");
    }
}
