//! A bound on memory that clients make a server hold, and how it is shared.
//!
//! - Memory is reserved as bytes arrive, or before they are read from the log. Nothing is set aside for what a client has
//!   only announced, so a client that sends nothing holds nothing.
//! - The last eighth is for what is [`SMALL`]. Small reservations never wait for large ones.
//! - Large reservations are served in the order in which they came. One that needs little does not overtake one that needs
//!   much.
//! - When memory runs out, clients give way that have not moved on for a second ([`peers`](crate::peers) says which). So
//!   idle clients hold memory against others for little more than that. A client that sends or takes something every
//!   second keeps its memory until its own time-out ends.
//! - A reservation waits for [`LONGEST_WAIT`] at most. After that the client is asked to come back later.
//! - What must not be refused any more is charged even above the bound ([`Memory::charge`]). Callers begin nothing new then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::peers::{Budget, Peer, Peers, SILENCE};

/// What is no larger than this may use all of a [`Memory`]; what is larger, seven eighths.
pub const SMALL: usize = 64 * 1024;
/// Answers of up to this size are never refused for want of memory: it is [charged](Memory::charge) for them.
pub const SHORT: usize = 16 * 1024;
/// How long a reservation waits for memory at most.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often those who wait look for clients that have become silent.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A budget of memory, in bytes. Clones share it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    used: AtomicUsize,
    /// Reservations that wait.
    waiting: AtomicUsize,
    freed: Notify,
    /// Held by the large reservation whose turn it is. Whoever asked first is next.
    turn: tokio::sync::Mutex<()>,
    peers: Mutex<Peers>,
    started: Instant,
}

impl Memory {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Self {
        Self(Arc::new(Inner {
            total,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            peers: Mutex::default(),
            started: Instant::now(),
        }))
    }

    /// The bound, in bytes.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// Bytes that are reserved now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether not a byte is left.
    pub fn is_full(&self) -> bool {
        self.used() >= self.total()
    }

    /// How much of the budget something of this size may fill up.
    fn ceiling(&self, size: usize) -> usize {
        if size <= SMALL { self.0.total } else { self.0.total - self.0.total / 8 }
    }

    /// Reserves memory that is free now, and for which nobody waits.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        self.try_grow(bytes, bytes)
    }

    /// Reserves memory. Waits for it a few seconds at most; `None` means that there is too little. Something larger than
    /// the whole budget gets all that one of its size may have, so that it can pass alone.
    pub async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        self.grow(bytes, bytes, None).await
    }

    /// Takes memory without waiting, above the bound where there is no other way: for what exists already and must not be
    /// thrown away. Idle clients give way for it.
    pub fn charge(&self, bytes: usize) -> Reservation {
        self.0.used.fetch_add(bytes, Ordering::AcqRel);
        if self.used() > self.total() {
            self.make_room();
        }
        Reservation { memory: self.clone(), bytes }
    }

    /// As [`reserve`](Self::reserve), for `bytes` more of something that will have `size` and comes from `client`.
    pub(crate) async fn grow(&self, bytes: usize, size: usize, client: Option<&Peer>) -> Option<Reservation> {
        if let Some(reservation) = self.try_grow(bytes, size) {
            return Some(reservation);
        }
        let waited = tokio::time::timeout(LONGEST_WAIT, self.wait_for(bytes, size, client));
        let reservation = Box::pin(waited).await.ok()?;
        if let Some(client) = client {
            // It was not the one that was waited for.
            client.moved_on();
        }
        Some(reservation)
    }

    fn try_grow(&self, bytes: usize, size: usize) -> Option<Reservation> {
        let ceiling = self.ceiling(size);
        if size <= SMALL {
            return self.take(bytes, ceiling);
        }
        // Not before those who wait for their turn.
        let _turn = self.0.turn.try_lock().ok()?;
        self.take(bytes, ceiling)
    }

    fn take(&self, bytes: usize, ceiling: usize) -> Option<Reservation> {
        let bytes = bytes.min(ceiling);
        if bytes == 0 {
            return Some(Reservation { memory: self.clone(), bytes });
        }
        let sum = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= ceiling);
        self.0.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, sum).ok()?;
        Some(Reservation { memory: self.clone(), bytes })
    }

    async fn wait_for(&self, bytes: usize, size: usize, client: Option<&Peer>) -> Reservation {
        let ceiling = self.ceiling(size);
        let bytes = bytes.min(ceiling);
        let (is_small, id) = (size <= SMALL, client.map(Peer::id));
        let mut waiting = Waiting::new(self, bytes, is_small, id);
        let _turn = if is_small { None } else { Some(self.0.turn.lock().await) };
        if !is_small {
            waiting.is_next();
        }
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            // From here on no release is missed.
            freed.as_mut().enable();
            if let Some(reservation) = self.take(bytes, ceiling) {
                return reservation;
            }
            self.make_room();
            let _ = tokio::time::timeout(LOOK_EVERY, freed).await;
        }
    }

    /// Asks silent clients to give way, for all who wait. One look within [`LOOK_EVERY`] is enough for them all.
    fn make_room(&self) {
        let now_ms = self.now_ms();
        let mut peers = self.peers();
        if now_ms < peers.look_again_ms {
            return;
        }
        peers.look_again_ms = now_ms + millis(LOOK_EVERY);
        let Some(silent_since_ms) = now_ms.checked_sub(millis(SILENCE)) else { return };
        let budget =
            Budget { used: self.used(), for_small: self.total(), for_large: self.ceiling(usize::MAX) };
        let giving_way = peers.giving_way(budget, silent_since_ms);
        drop(peers);
        for hang_up in giving_way {
            tracing::debug!("hung up on a client that held memory and did not move on");
            hang_up.cancel();
        }
    }

    /// Registers something whose memory comes back when a client moves on. `hang_up` is cancelled when others need that
    /// memory more; who holds it must then let go of it soon.
    pub fn peer(&self, hang_up: CancellationToken) -> Peer {
        Peer::new(self, hang_up)
    }

    pub(crate) fn peers(&self) -> MutexGuard<'_, Peers> {
        // They are whole between any two statements.
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since this budget was made.
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.0.started.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    // Less than the largest, which `Peer` uses for itself.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

/// A reservation that waits, for as long as it does.
struct Waiting<'a> {
    memory: &'a Memory,
    bytes: usize,
    is_small: bool,
    is_next: bool,
    /// The client for whose sake it waits, where that holds memory.
    client: Option<u64>,
}

impl<'a> Waiting<'a> {
    fn new(memory: &'a Memory, bytes: usize, is_small: bool, client: Option<u64>) -> Self {
        memory.0.waiting.fetch_add(1, Ordering::SeqCst);
        let mut peers = memory.peers();
        *peers.wanted(is_small) += bytes;
        if let Some(id) = client {
            peers.waits(id);
        }
        drop(peers);
        Self { memory, bytes, is_small, is_next: false, client }
    }

    /// It is the large one whose turn it is.
    fn is_next(&mut self) {
        self.is_next = true;
        let mut peers = self.memory.peers();
        peers.wanted_next = self.bytes;
        if let Some(id) = self.client {
            peers.is_next(id);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut peers = self.memory.peers();
        *peers.wanted(self.is_small) -= self.bytes;
        if self.is_next {
            peers.wanted_next = 0;
        }
        if let Some(id) = self.client {
            peers.waits_no_more(id);
        }
        drop(peers);
        self.memory.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Memory that is reserved until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Memory,
    bytes: usize,
}

impl Reservation {
    /// How much it is, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(rest) = self.bytes.checked_sub(bytes) {
            drop(Self { memory: self.memory.clone(), bytes: rest });
            self.bytes = bytes;
        }
    }

    /// Covers so many bytes at least; what is missing is [charged](Memory::charge).
    #[must_use]
    pub fn covering(mut self, bytes: usize) -> Self {
        let missing = bytes.saturating_sub(self.bytes);
        if missing > 0 {
            let more = self.memory.charge(missing);
            self.merge(more);
        }
        self
    }

    /// Takes another one of the same [`Memory`] in.
    pub(crate) fn merge(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.memory.0, &other.memory.0));
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The bytes for which this was reserved. It is given back when the last slice of them is dropped, wherever that is:
    /// a connection may hold them long after the answer was handed to it.
    pub fn into_bytes(self, bytes: Vec<u8>) -> Bytes {
        self.hold(Bytes::from(bytes))
    }

    /// As [`into_bytes`](Self::into_bytes), for bytes that are shared already.
    pub fn hold(mut self, bytes: Bytes) -> Bytes {
        self.shrink_to(bytes.len());
        Bytes::from_owner(Held { bytes, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        self.memory.0.used.fetch_sub(self.bytes, Ordering::SeqCst);
        if self.memory.0.waiting.load(Ordering::SeqCst) > 0 {
            self.memory.0.freed.notify_waiters();
        }
    }
}

struct Held {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Marks an answer whose body holds its memory already; it is an extension of the answer.
#[derive(Debug, Clone, Copy)]
pub struct Reserved;

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    const MIB: usize = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn what_is_large_leaves_an_eighth_to_what_is_small() {
        let memory = Memory::new(8 * MIB);
        let large = memory.reserve(7 * MIB).await.unwrap();
        assert!(memory.reserve(MIB).await.is_none(), "waiting is bounded");
        let small: Vec<_> = (0..MIB / SMALL).map(|_| memory.try_reserve(SMALL).unwrap()).collect();
        assert!(memory.try_reserve(1).is_none());
        drop((large, small));
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_that_was_silent_for_longest_gives_way() {
        let memory = Memory::new(8 * MIB);
        let (old, new) = (CancellationToken::new(), CancellationToken::new());
        let client = |hang_up: &CancellationToken| {
            let held = (memory.peer(hang_up.clone()), memory.try_reserve(3 * MIB).unwrap());
            held.0.holds(3 * MIB);
            let hang_up = hang_up.clone();
            async move {
                hang_up.cancelled().await;
                drop(held);
            }
        };
        let first = tokio::spawn(client(&old));
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = tokio::spawn(client(&new));
        let third = memory.reserve(3 * MIB).await.unwrap();
        assert!(old.is_cancelled() && !new.is_cancelled());
        first.await.unwrap();
        new.cancel();
        second.await.unwrap();
        assert_eq!(memory.used(), third.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_moves_on_or_is_not_awaited_keeps_its_memory() {
        let memory = Memory::new(8 * MIB);
        let (moving, served) = (CancellationToken::new(), CancellationToken::new());
        let (mover, idle) = (memory.peer(moving.clone()), memory.peer(served.clone()));
        mover.holds(4 * MIB);
        idle.holds(3 * MIB);
        idle.not_awaited();
        let held = memory.try_reserve(7 * MIB).unwrap();
        let moves = async {
            loop {
                mover.moved_on();
                tokio::time::sleep(SILENCE / 2).await;
            }
        };
        tokio::select! {
            refused = memory.reserve(MIB) => assert!(refused.is_none()),
            () = moves => {}
        }
        assert!(!moving.is_cancelled() && !served.is_cancelled());
        drop(held);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_budget_passes_alone() {
        let memory = Memory::new(8 * MIB);
        let all = memory.reserve(100 * MIB).await.unwrap();
        assert_eq!(all.bytes(), 7 * MIB);
        assert!(memory.try_reserve(100 * MIB).is_none());
    }

    #[test]
    fn bytes_keep_their_memory_until_the_last_slice_is_gone() {
        let memory = Memory::new(MIB);
        let reservation = memory.try_reserve(1000).unwrap();
        let mut bytes = reservation.into_bytes(vec![7; 600]);
        assert_eq!(memory.used(), 600, "what is not needed is given back");
        let slice = bytes.split_to(1);
        drop(bytes);
        assert_eq!(memory.used(), 600);
        drop(slice);
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_reservation_is_not_overtaken_by_one_that_needs_less() {
        let memory = Memory::new(8 * MIB);
        let (three, four) = (memory.try_reserve(3 * MIB).unwrap(), memory.try_reserve(4 * MIB).unwrap());
        let mut first = std::pin::pin!(memory.reserve(5 * MIB));
        let mut second = std::pin::pin!(memory.reserve(2 * MIB));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(three);
        // There would be enough for the second.
        assert!(poll!(&mut second).is_pending() && memory.try_reserve(2 * MIB).is_none());
        assert!(memory.try_reserve(SMALL).is_some(), "what is small does not wait for it");
        drop(four);
        let first = first.await.unwrap();
        let second = second.await.unwrap();
        assert_eq!(memory.used(), first.bytes() + second.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn the_turn_passes_on_when_one_in_line_goes_away() {
        let memory = Memory::new(8 * MIB);
        let held = memory.try_reserve(7 * MIB).unwrap();
        let mut second = Box::pin(memory.reserve(2 * MIB));
        {
            let mut first = std::pin::pin!(memory.reserve(7 * MIB));
            assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        }
        drop(held);
        drop(second.await.unwrap());
        assert_eq!((memory.used(), memory.peers().wanted_next), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_clients_give_way_to_all_that_wait_at_once() {
        let memory = Memory::new(8 * MIB);
        let idle: Vec<_> = (0..7)
            .map(|_| {
                let (hang_up, held) = (CancellationToken::new(), memory.try_reserve(MIB).unwrap());
                let peer = memory.peer(hang_up.clone());
                peer.holds(MIB);
                tokio::spawn(async move {
                    hang_up.cancelled().await;
                    drop((peer, held));
                })
            })
            .collect();
        let come = (0..3).map(|_| memory.reserve(2 * MIB));
        let now = Instant::now();
        let come = futures::future::join_all(come).await;
        assert!(come.iter().all(Option::is_some));
        // One look found them all.
        assert!(now.elapsed() <= SILENCE + LOOK_EVERY, "{:?}", now.elapsed());
        let gave_way = async {
            while idle.iter().filter(|idle| idle.is_finished()).count() < 6 {
                tokio::task::yield_now().await;
            }
        };
        gave_way.await;
        assert!(!idle.iter().all(tokio::task::JoinHandle::is_finished), "and no more than that");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_charged_is_never_refused_and_idle_clients_give_way_for_it() {
        let memory = Memory::new(MIB);
        let (hang_up, held) = (CancellationToken::new(), memory.try_reserve(MIB / 2).unwrap());
        let peer = memory.peer(hang_up.clone());
        peer.holds(held.bytes());
        tokio::time::advance(SILENCE).await;
        let charged = memory.charge(MIB);
        assert!(memory.is_full() && hang_up.is_cancelled());
        drop((peer, held));
        let covering = memory.try_reserve(0).unwrap().covering(10);
        assert_eq!((memory.used(), covering.bytes()), (MIB + 10, 10));
        drop((charged, covering));
        assert_eq!(memory.used(), 0);
    }
}
