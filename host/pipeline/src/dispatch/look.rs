//! The look for lanes that only the store has. Pure: it is told what there is.

use sandbar_store::{Lane, LaneId};

/// How many lanes the store is asked for at once, at least: most of them may be known.
const AT_ONCE: usize = 256;

/// The first `count` lanes that are not known, from behind `from` to the last and from the first on again; and whether
/// there are no others. `lanes`: so many behind one, in the order of their ids.
pub(super) fn look_round<E>(
    from: Option<LaneId>,
    count: usize,
    mut lanes: impl FnMut(Option<LaneId>, usize) -> Result<Vec<Lane>, E>,
    is_known: impl Fn(LaneId) -> bool,
) -> Result<(Vec<Lane>, bool), E> {
    let at_once = count.max(AT_ONCE);
    let (mut unknown, mut after, mut is_second) = (Vec::new(), from, from.is_none());
    let all = loop {
        let some = lanes(after, at_once)?;
        after = some.last().map(Lane::id);
        let is_behind = |lane: &Lane| is_second && from.is_some_and(|from| lane.id() > from);
        let is_end = some.len() < at_once || some.last().is_some_and(is_behind);
        let is_new = |lane: &Lane| !is_behind(lane) && !is_known(lane.id());
        unknown.extend(some.into_iter().filter(is_new));
        let is_round = is_end && is_second;
        if is_round || unknown.len() >= count {
            break is_round && unknown.len() <= count;
        }
        if is_end {
            (after, is_second) = (None, true);
        }
    };
    unknown.truncate(count);
    Ok((unknown, all))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;

    /// So many lanes, by their ids.
    fn store(count: usize) -> Vec<Lane> {
        let lane = |key: usize| Lane { route: "r".parse().unwrap(), key: key.to_string().into() };
        let mut lanes: Vec<_> = (0..count).map(lane).collect();
        lanes.sort_unstable_by_key(Lane::id);
        lanes
    }

    /// Which lanes are found behind that one, whether those are all, and how often the store was asked.
    fn found(
        store: &[Lane],
        from: Option<usize>,
        count: usize,
        is_known: impl Fn(usize) -> bool,
    ) -> (Vec<usize>, bool, usize) {
        let ids: Vec<_> = store.iter().map(Lane::id).collect();
        let at = |id: LaneId| ids.binary_search(&id).unwrap();
        let asked = Cell::new(0);
        let lanes = |after: Option<LaneId>, count: usize| {
            asked.set(asked.get() + 1);
            let begin = after.map_or(0, |after| at(after) + 1);
            Ok::<Vec<Lane>, Infallible>(store[begin..].iter().take(count).cloned().collect())
        };
        let from = from.map(|from| store[from].id());
        let (lanes, all) = look_round(from, count, lanes, |id| is_known(at(id))).unwrap();
        (lanes.iter().map(|lane| at(lane.id())).collect(), all, asked.get())
    }

    /// For each lane that ended the look began at the first, and went past thousands that were known.
    #[test]
    fn it_goes_on_where_the_last_one_ended() {
        let store = store(3000);
        assert_eq!(found(&store, Some(1999), 1, |at| at < 2000), (vec![2000], false, 1));
        assert_eq!(found(&store, None, 1, |at| at < 2000).2, 8);
        // Round: each once.
        let known = |at| (100..2990).contains(&at);
        let all: Vec<_> = (2990..3000).chain(0..100).collect();
        assert_eq!(found(&store, Some(1999), 1000, known), (all.clone(), true, 5));
        assert_eq!(found(&store, Some(1999), 109, known), (all[..109].to_vec(), false, 5));
        assert_eq!(found(&store, Some(2999), 9, |_| true), (vec![], true, 13));
    }

    #[test]
    fn what_it_ended_at_may_be_found_again() {
        let store = store(5);
        assert_eq!(found(&store, Some(2), 9, |_| false), (vec![3, 4, 0, 1, 2], true, 2));
        assert_eq!(found(&store, None, 9, |_| false), (vec![0, 1, 2, 3, 4], true, 1));
        assert_eq!(found(&store, None, 5, |_| false), (vec![0, 1, 2, 3, 4], true, 1));
        assert_eq!(found(&store, None, 4, |_| false), (vec![0, 1, 2, 3], false, 1));
    }
}
