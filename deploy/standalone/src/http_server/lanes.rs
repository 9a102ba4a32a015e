//! Which lane serves a connection.

use service_kit::edge::Limits;

use super::{lane::Lane, load::Seen};

/// All lanes of a listener.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// How many connections a lane gets as long as others have fewer.
    share: usize,
}

impl Lanes {
    pub(super) fn new(lanes: Vec<Lane>, limits: &Limits) -> Self {
        let share = share(limits.connections, lanes.len());
        Self { lanes, share }
    }

    /// The lane for the next connection.
    pub(super) fn next(&mut self) -> Option<&Lane> {
        // The first of several that are equally busy is chosen: they take turns.
        let one = self.lanes.len().min(1);
        self.lanes.rotate_left(one);
        let rank = |lane: &&Lane| rank(lane.has_room(), lane.load().seen(), self.share);
        self.lanes.iter().min_by_key(rank)
    }
}

/// How many of a listener's connections one of its lanes has. A quarter more than its part, since connections end as they like: the part that
/// those of another lane leave free can be used.
fn share(connections: usize, lanes: usize) -> usize {
    let part = connections.div_ceil(lanes.max(1));
    part + part.div_ceil(4)
}

/// The lane with the lowest rank gets the next connection. A lane that has its share is the last resort rather than none: the gate has a place
/// for the connection.
fn rank(has_room: bool, seen: Seen, share: usize) -> (bool, bool, usize) {
    (!has_room, seen.connections >= share, seen.connections + seen.requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(lanes: &[(bool, usize, usize)], share: usize) -> Option<usize> {
        let ranks = lanes.iter().map(|&(has_room, connections, requests)| {
            let seen = Seen { connections, requests };
            rank(has_room, seen, share)
        });
        ranks.enumerate().min_by_key(|(_, rank)| *rank).map(|(index, _)| index)
    }

    #[test]
    fn the_least_busy_lane_is_chosen() {
        assert_eq!(least(&[(true, 3, 0), (true, 2, 0), (true, 4, 0)], 10), Some(1));
        assert_eq!(least(&[(true, 2, 0), (true, 2, 0)], 10), Some(0), "the first of equals");
        // One connection of a proxy may have many requests in progress.
        assert_eq!(least(&[(true, 1, 100), (true, 50, 1)], 100), Some(1));
        assert_eq!(
            least(&[(false, 1, 0), (true, 50, 1)], 100),
            Some(1),
            "one whose queue is full is no choice"
        );
    }

    #[test]
    fn no_lane_has_all_connections() {
        // However busy the other is.
        assert_eq!(least(&[(true, 10, 0), (true, 1, 500)], 10), Some(1));
        assert_eq!(
            least(&[(true, 10, 5), (true, 10, 2)], 10),
            Some(1),
            "if all have their share, the least busy"
        );
        for (connections, lanes) in [(16, 1), (16, 2), (17, 4), (10_000, 3), (16, 64)] {
            let share = share(connections, lanes);
            assert!(share * lanes >= connections, "{connections} on {lanes}");
            assert!(lanes < 3 || share < connections, "{connections} on {lanes}");
        }
        assert_eq!((share(10_000, 2), share(10_000, 8)), (6_250, 1_563));
    }
}
