//! A bound on memory that clients make a server hold, and how it is shared.
//!
//! - Memory is reserved as bytes arrive, or before they are read from the log. Nothing is set aside for what a client has
//!   only announced, so one that sends nothing holds nothing.
//! - The last eighth is for what is [`SMALL`]: large bodies never keep a small one out.
//! - When it is used up, the clients that have been silent for longest are hung up on, if that is [`SILENCE`] or more: they
//!   neither sent more of a body nor took more of an answer. So no number of slow or idle clients holds memory against one
//!   that moves on.
//! - A reservation waits for [`LONGEST_WAIT`] at most. After that the client is asked to come back later.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is no larger than this may use all of a [`Memory`]; what is larger, seven eighths.
pub const SMALL: usize = 64 * 1024;
/// How long a client must have been silent before its memory may be given to another.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a reservation waits for memory at most.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often those who wait look for clients that have become silent.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The time of a [`Peer`] that is not waited for.
const NOT_AWAITED: u64 = u64::MAX;

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
    peers: Mutex<Peers>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Peers {
    next_id: u64,
    by_id: HashMap<u64, Arc<State>>,
}

#[derive(Debug)]
struct State {
    /// Milliseconds from the start of the [`Memory`] to when the client last moved on, or [`NOT_AWAITED`].
    since_ms: AtomicU64,
    /// Bytes that come back when it is hung up on.
    held: AtomicUsize,
    hang_up: CancellationToken,
}

impl State {
    fn since_ms(&self) -> u64 {
        self.since_ms.load(Ordering::Relaxed)
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Memory {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Self {
        Self(Arc::new(Inner {
            total,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
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

    /// How much of the budget something of this size may fill up.
    fn ceiling(&self, size: usize) -> usize {
        if size <= SMALL { self.0.total } else { self.0.total - self.0.total / 8 }
    }

    /// Reserves memory that is free now.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        self.try_grow(bytes, bytes)
    }

    /// Reserves memory. Waits for it a few seconds at most; `None` means that there is too little. Something larger than
    /// the whole budget gets all that one of its size may have, so that it can pass alone.
    pub async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        self.grow(bytes, bytes, None).await
    }

    /// As [`reserve`](Self::reserve), for `bytes` more of something that will have `size`, and comes from `client`, who is
    /// not the one that is waited for meanwhile.
    pub(crate) async fn grow(&self, bytes: usize, size: usize, client: Option<&Peer>) -> Option<Reservation> {
        match self.try_grow(bytes, size) {
            Some(reservation) => Some(reservation),
            None => {
                let waited = tokio::time::timeout(LONGEST_WAIT, self.wait_for(bytes, size, client));
                Box::pin(waited).await.ok()
            }
        }
    }

    fn try_grow(&self, bytes: usize, size: usize) -> Option<Reservation> {
        let ceiling = self.ceiling(size);
        let bytes = bytes.min(ceiling);
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= ceiling);
        self.0.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).ok()?;
        Some(Reservation { memory: self.clone(), bytes })
    }

    async fn wait_for(&self, bytes: usize, size: usize, client: Option<&Peer>) -> Reservation {
        let _waiting = Waiting::new(&self.0.waiting);
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            // From here on no release is missed.
            freed.as_mut().enable();
            if let Some(reservation) = self.try_grow(bytes, size) {
                return reservation;
            }
            if let Some(client) = client {
                client.moved_on();
            }
            let missing = (self.used() + bytes.min(self.ceiling(size))).saturating_sub(self.ceiling(size));
            self.hang_up_on_the_most_silent(missing);
            let _ = tokio::time::timeout(LOOK_EVERY, freed).await;
        }
    }

    /// Gives up as many clients as hold what is missing; those that were given up and still hold theirs count.
    fn hang_up_on_the_most_silent(&self, missing: usize) {
        let Some(long_ago) = self.now_ms().checked_sub(millis(SILENCE)) else { return };
        let peers = self.peers();
        let (gone, there): (Vec<_>, Vec<_>) =
            peers.by_id.values().partition(|peer| peer.hang_up.is_cancelled());
        let mut missing = gone.iter().fold(missing, |missing, peer| missing.saturating_sub(peer.held()));
        let mut silent: Vec<_> =
            there.into_iter().filter(|peer| peer.held() > 0 && peer.since_ms() <= long_ago).collect();
        silent.sort_by_key(|peer| peer.since_ms());
        for peer in silent {
            if missing == 0 {
                break;
            }
            tracing::debug!("hung up on a client that held memory for bodies and did not move on");
            peer.hang_up.cancel();
            missing = missing.saturating_sub(peer.held());
        }
    }

    /// Registers something whose memory comes back when a client moves on. `hang_up` is cancelled when others need that
    /// memory more; who holds it must then let go of it soon.
    pub fn peer(&self, hang_up: CancellationToken) -> Peer {
        let since_ms = AtomicU64::new(self.now_ms());
        let state = Arc::new(State { since_ms, held: AtomicUsize::new(0), hang_up });
        let mut peers = self.peers();
        let id = peers.next_id;
        peers.next_id += 1;
        peers.by_id.insert(id, Arc::clone(&state));
        Peer { memory: self.clone(), id, state }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        // The map is whole between any two statements.
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        millis(self.0.started.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NOT_AWAITED - 1)
}

/// Counts one that waits for as long as it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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

/// A client on which it depends when memory comes back.
#[derive(Debug)]
pub struct Peer {
    memory: Memory,
    id: u64,
    state: Arc<State>,
}

impl Peer {
    /// How many bytes of memory come back when this client is hung up on.
    pub fn holds(&self, bytes: usize) {
        self.state.held.store(bytes, Ordering::Relaxed);
    }

    /// The client has moved on, and is waited for again.
    pub fn moved_on(&self) {
        self.state.since_ms.store(self.memory.now_ms(), Ordering::Relaxed);
    }

    /// It is not the client that is waited for.
    pub fn not_awaited(&self) {
        self.state.since_ms.store(NOT_AWAITED, Ordering::Relaxed);
    }

    /// How long the client has been waited for in vain.
    pub fn silent_for(&self) -> Duration {
        let since = self.state.since_ms();
        Duration::from_millis(self.memory.now_ms().saturating_sub(since))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.memory.peers().by_id.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
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
}
