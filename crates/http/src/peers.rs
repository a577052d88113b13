//! Clients that hold memory, and which of them give way when others need it.
//!
//! - A client gives way only after it has not moved on for [`SILENCE`]: it neither sent more of a body nor took more of an
//!   answer.
//! - Idle clients give way first, those that were silent for longest before others, until there is enough for all who wait.
//! - Where that is not enough for the one whose turn it is, clients give way whose own bodies wait for memory, those that
//!   came last before others. Otherwise bodies that are all half read could keep each other from going on. The one
//!   whose turn it is, or, where only small ones wait, the one that came first, never does.
//!
//! What was asked back and has not come back yet counts as coming.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::memory::Memory;

/// How long a client must have been silent before its memory may be given to another.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// The time of a [`Peer`] that is not waited for.
const NOT_AWAITED: u64 = u64::MAX;

/// The clients of a [`Memory`], and what is wanted of it.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    last_id: u64,
    last_ticket: u64,
    by_id: HashMap<u64, Registered>,
    /// Bytes of all small reservations that wait, and of all large ones.
    small: usize,
    large: usize,
    /// Bytes of the large one whose turn it is.
    pub(crate) wanted_next: usize,
    /// When to look again for clients that are silent.
    pub(crate) look_again_ms: u64,
}

#[derive(Debug)]
struct Registered {
    state: Arc<State>,
    wait: Wait,
}

/// Whether a client's own body waits for memory; those that are served first come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    No,
    /// It is the large one whose turn it is.
    Next,
    /// Those that came later have larger tickets.
    InLine(u64),
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

/// How much is used of a [`Memory`], and up to where small and large reservations may fill it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) used: usize,
    pub(crate) for_small: usize,
    pub(crate) for_large: usize,
}

impl Peers {
    /// Bytes that are waited for.
    pub(crate) fn wanted(&mut self, is_small: bool) -> &mut usize {
        if is_small { &mut self.small } else { &mut self.large }
    }

    /// A client's own body waits from now on.
    pub(crate) fn waits(&mut self, id: u64) {
        self.last_ticket += 1;
        self.set(id, Wait::InLine(self.last_ticket));
    }

    pub(crate) fn is_next(&mut self, id: u64) {
        self.set(id, Wait::Next);
    }

    pub(crate) fn waits_no_more(&mut self, id: u64) {
        self.set(id, Wait::No);
    }

    fn set(&mut self, id: u64, wait: Wait) {
        if let Some(registered) = self.by_id.get_mut(&id) {
            registered.wait = wait;
        }
    }

    /// The clients to hang up on; `silent_since_ms` is the latest time that is long enough ago.
    pub(crate) fn giving_way(&self, budget: Budget, silent_since_ms: u64) -> Vec<CancellationToken> {
        let Budget { used, for_small, for_large } = budget;
        let over = |wanted: usize, ceiling: usize| (used + wanted).saturating_sub(ceiling);
        let for_those_small = over(self.small, for_small);
        let (mut for_all, mut for_next) = (for_those_small, for_those_small);
        if self.large > 0 {
            for_all = for_all.max(over(self.small + self.large, for_large));
            for_next = for_next.max(over(self.wanted_next, for_large));
        }

        let is_gone = |peer: &&Registered| peer.state.hang_up.is_cancelled();
        let (gone, there): (Vec<_>, Vec<_>) = self.by_id.values().partition(is_gone);
        let silent = there
            .into_iter()
            .filter(|peer| peer.state.held() > 0 && peer.state.since_ms() <= silent_since_ms);
        let (mut idle, waiting): (Vec<_>, Vec<_>) = silent.partition(|peer| peer.wait == Wait::No);
        idle.sort_by_key(|peer| peer.state.since_ms());

        let mut coming: usize = gone.iter().map(|peer| peer.state.held()).sum();
        let mut giving_way = Vec::new();
        for (needed, candidates) in [(for_all, idle), (for_next, self.last_come_first(waiting))] {
            for peer in candidates {
                if coming >= needed {
                    break;
                }
                coming += peer.state.held();
                giving_way.push(peer.state.hang_up.clone());
            }
        }
        giving_way
    }

    /// Of those that wait, all but the first.
    fn last_come_first<'a>(&self, mut waiting: Vec<&'a Registered>) -> Vec<&'a Registered> {
        let first = self.by_id.values().map(|peer| peer.wait).filter(|wait| *wait != Wait::No).min();
        waiting.retain(|peer| Some(peer.wait) != first);
        waiting.sort_by_key(|peer| Reverse(peer.wait));
        waiting
    }
}

/// A client on which it depends when memory comes back.
#[derive(Debug)]
pub struct Peer {
    memory: Memory,
    id: u64,
    state: Arc<State>,
}

impl Peer {
    pub(crate) fn new(memory: &Memory, hang_up: CancellationToken) -> Self {
        let since_ms = AtomicU64::new(memory.now_ms());
        let state = Arc::new(State { since_ms, held: AtomicUsize::new(0), hang_up });
        let mut peers = memory.peers();
        peers.last_id += 1;
        let id = peers.last_id;
        peers.by_id.insert(id, Registered { state: Arc::clone(&state), wait: Wait::No });
        drop(peers);
        Self { memory: memory.clone(), id, state }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

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

    const NOW: u64 = 100;

    /// Clients that have been silent since a time, hold ten bytes each, and wait or do not.
    fn peers(clients: &[(u64, Wait)]) -> (Peers, Vec<CancellationToken>) {
        let mut peers = Peers::default();
        let mut tokens = Vec::new();
        for (id, &(since, wait)) in clients.iter().enumerate() {
            let hang_up = CancellationToken::new();
            tokens.push(hang_up.clone());
            let state = State { since_ms: since.into(), held: 10.into(), hang_up };
            peers.by_id.insert(id as u64, Registered { state: Arc::new(state), wait });
        }
        (peers, tokens)
    }

    /// The clients that give way, after they did.
    fn give_way(peers: &Peers, tokens: &[CancellationToken], used: usize) -> Vec<usize> {
        let budget = Budget { used, for_small: 100, for_large: 90 };
        for hang_up in peers.giving_way(budget, NOW) {
            hang_up.cancel();
        }
        (0..tokens.len()).filter(|id| tokens[*id].is_cancelled()).collect()
    }

    #[test]
    fn those_that_were_silent_for_longest_give_way_until_there_is_enough_for_all() {
        let idle = [(70, Wait::No), (NOW, Wait::No), (30, Wait::No), (NOW + 1, Wait::No), (50, Wait::No)];
        for (small, large, expected) in [
            (0, 0, &[][..]),
            (10, 0, &[]),
            (11, 0, &[2]),
            (0, 10, &[2]),
            (10, 1, &[2, 4]),
            (0, 30, &[0, 2, 4]),
            (50, 500, &[0, 1, 2, 4]),
        ] {
            let (mut peers, tokens) = peers(&idle);
            (peers.small, peers.large) = (small, large);
            assert_eq!(give_way(&peers, &tokens, 90), expected, "{small} and {large}");
            assert_eq!(give_way(&peers, &tokens, 90), expected, "what comes back is waited for");
        }
    }

    #[test]
    fn of_those_that_wait_the_last_give_way_to_the_first_and_only_when_they_must() {
        let waiting = [(1, Wait::InLine(5)), (1, Wait::Next), (1, Wait::InLine(7)), (1, Wait::InLine(6))];
        for (next, idle, expected) in
            [(10, true, &[4][..]), (10, false, &[2]), (11, false, &[2, 3]), (90, false, &[0, 2, 3])]
        {
            let clients: Vec<_> = waiting.into_iter().chain(idle.then_some((2, Wait::No))).collect();
            let (mut peers, tokens) = peers(&clients);
            (peers.large, peers.wanted_next) = (next + 30, next);
            assert_eq!(give_way(&peers, &tokens, 90), expected, "{next}");
        }
        // Small ones have no turns; the one that came first is first.
        let (mut peers, tokens) = peers(&[(1, Wait::InLine(3)), (1, Wait::InLine(2))]);
        peers.small = 100;
        assert_eq!(give_way(&peers, &tokens, 100), [0]);
    }
}
