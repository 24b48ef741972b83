//! Operations of all kinds begun, dropped and finished in any order, from a seed.

use crate::{
    drive::{Bench, poll_once},
    on_both_drivers,
};
use crossdock_transport::{
    ring::Durability,
    tcp::{TcpListener, TcpStream},
};
use std::{future::Future, net, pin::Pin, time::Duration};

on_both_drivers!(nothing_is_lost_or_left_behind);

/// A sequence of numbers from a seed (Marsaglia's xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Whatever is dropped half way, every slot and every lease comes back, and every socket closes.
fn nothing_is_lost_or_left_behind(bench: &Bench) {
    let _ = bench.ring.register(&bench.arena);
    for seed in 1..=16 {
        // Our ends are dropped with their operations; the peers stay, so that only cancelling ends those.
        let peers = round(bench, &mut Numbers(seed << 32 | 0x9e37_79b9));
        bench.settle();
        drop(peers);
        for _ in 0..200 {
            bench.pool.drain_returns();
            if bench.pool.leases() == 0 {
                break;
            }
            // Zero-copy sends give back when the closed connection is gone.
            bench.ring.park(Some(Duration::from_millis(10)));
        }
        assert_eq!(bench.pool.leases(), 0, "seed {seed}");
        assert_eq!(bench.ring.socket_queue().in_flight() + bench.ring.queue().in_flight(), 0);
    }
}

fn round(bench: &Bench, numbers: &mut Numbers) -> Vec<net::TcpStream> {
    let listener = TcpListener::bind(&bench.ring, ([127, 0, 0, 1], 0).into(), false).unwrap();
    let file = bench.direct_file("soak");
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut peers: Vec<net::TcpStream> = Vec::new();
    let mut works: Vec<Work> = Vec::new();
    for _ in 0..600 {
        match numbers.below(10) {
            0 if streams.len() < 40 => {
                peers.push(net::TcpStream::connect(listener.local_addr()).unwrap());
                streams.push(bench.run(listener.accept()).unwrap().0);
            }
            1 if streams.len() > 5 => {
                let index = numbers.below(streams.len() as u64) as usize;
                // Sometimes our end first, sometimes theirs.
                if numbers.below(2) == 0 {
                    streams.swap_remove(index);
                } else if !peers.is_empty() {
                    peers.swap_remove(index % peers.len());
                }
            }
            2 | 3 if !streams.is_empty() => {
                let stream = streams[numbers.below(streams.len() as u64) as usize].clone();
                let Some(lease) = bench.pool.try_acquire(65536) else { continue };
                let limit = 1 + numbers.below(65536) as usize;
                works.push(Box::pin(async move { _ = stream.receive(lease, limit).await }));
            }
            4 | 5 if !streams.is_empty() => {
                let stream = streams[numbers.below(streams.len() as u64) as usize].clone();
                let bytes = 1 + numbers.below(1 << 20) as usize;
                let Some(mut lease) = bench.pool.try_acquire(bytes) else { continue };
                lease.set_len(bytes);
                works.push(Box::pin(async move { _ = stream.send_all(lease.freeze().into()).await }));
            }
            6 if !peers.is_empty() => {
                use std::io::{Read, Write};
                let index = numbers.below(peers.len() as u64) as usize;
                let peer = &mut peers[index];
                peer.set_nonblocking(true).unwrap();
                // Whatever it takes and gives: the other end may be gone.
                let _ = peer.write(&[7; 5000]);
                let _ = peer.read(&mut vec![0; 200_000]);
            }
            7 => {
                let (ring, file) = (bench.ring.clone(), file.clone());
                let Some(mut lease) = bench.pool.try_acquire(65536) else { continue };
                let offset = numbers.below(64) * 65536;
                let writes = numbers.below(2) == 0;
                works.push(Box::pin(async move {
                    let slot = ring.queue().slot().await;
                    if writes {
                        lease.set_len(65536);
                        let source = lease.freeze().into();
                        drop(ring.write(slot, &file, offset, source, Durability::Buffered).await);
                    } else {
                        drop(ring.read(slot, &file, offset, lease, 0, 65536).await);
                    }
                }));
            }
            8 if !works.is_empty() => {
                let index = numbers.below(works.len() as u64) as usize;
                drop(works.swap_remove(index));
            }
            _ => {
                works.retain_mut(|work| poll_once(work).is_pending());
                match numbers.below(3) {
                    0 => bench.ring.turn(),
                    1 => bench.ring.park(Some(Duration::from_micros(200))),
                    _ => bench.pool.drain_returns(),
                };
            }
        }
    }
    peers
}
