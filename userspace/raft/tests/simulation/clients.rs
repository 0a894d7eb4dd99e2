use crate::world::{Acknowledged, Shared};
use essaim_raft::{NodeId, ProposeError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Proposes one command after another, each of them once, wherever the leader is said to be.
pub(crate) fn client(world: &Shared, number: u64, pause: Duration) -> JoinHandle<()> {
    let world = world.clone();
    let mut random =
        StdRng::seed_from_u64(world.lock().unwrap().seed ^ (number + 1).wrapping_mul(0xc11e_2727));
    tokio::spawn(async move {
        let mut guess: Option<NodeId> = None;
        for count in 0_u64.. {
            let command = format!("client {number} command {count}").into_bytes();
            let target = {
                let alive = world.lock().unwrap().alive();
                let guessed = alive.iter().position(|(id, _)| Some(*id) == guess);
                let any = random.random_range(0..alive.len().max(1));
                alive.get(guessed.unwrap_or(any)).cloned()
            };
            if let Some((id, handle)) = target {
                match handle.propose(command.clone()).await {
                    Ok(committed) => {
                        let answer: Vec<u8> = command.iter().rev().copied().collect();
                        assert_eq!(committed.response, answer);
                        guess = Some(id);
                        let index = committed.index;
                        world
                            .lock()
                            .unwrap()
                            .acknowledged
                            .push(Acknowledged { index, command });
                    }
                    Err(ProposeError::NotLeader { leader } | ProposeError::LeaderChanged { leader }) => {
                        guess = leader.map(|leader| leader.id);
                    }
                    Err(_) => guess = None,
                }
            }
            let micros = pause.as_micros() as u64;
            sleep(Duration::from_micros(
                random.random_range(micros / 2..=micros * 3 / 2),
            ))
            .await;
        }
    })
}
