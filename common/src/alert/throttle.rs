//! Which alerts leave together, and when: one letter per kind and minute.
//!
//! ```text
//! alert --say--> pending letter of its kind --due--> letter     (a second later: what happens at once is told at once)
//! over  --say--> noted in the pending letter, or pending letter of what is over
//! ```
//!
//! Nothing that is said is dropped: what may not leave yet is counted in a letter that leaves later. The memory that this
//! takes is bounded: one letter per kind, which lists so many places and counts the others.

use std::{collections::BTreeMap, time::Duration};

use super::{Alert, AlertKind};

/// What comes within this time of a kind's first alert goes with it: troubles seldom meet one partition alone.
const COLLECT: Duration = Duration::from_secs(1);
/// No two letters of one kind are closer together.
const WINDOW: Duration = Duration::from_secs(60);
/// How many places a letter lists.
const MOST_PLACES: usize = 50;

/// What waits to leave, by kind. `now` is a duration on one clock that never goes back.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// By kind, and whether it is about what is over.
    windows: BTreeMap<(AlertKind, bool), Window>,
}

#[derive(Debug, Default)]
struct Window {
    left_at: Option<Duration>,
    pending: Option<(Duration, Letter)>,
}

impl Window {
    fn due_at(&self) -> Option<Duration> {
        let (since, _) = self.pending.as_ref()?;
        let next = self.left_at.map_or(Duration::ZERO, |left| left + WINDOW);
        Some(next.max(*since + COLLECT))
    }
}

/// What leaves as one message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letter {
    /// The first alert of it.
    pub(super) first: Alert,
    /// When that was said, and when the last one was.
    pub(super) at: [String; 2],
    /// How many alerts it stands for.
    pub(super) alerts: u64,
    /// How many things they were about.
    pub(super) count: u64,
    /// Where: in the order of being said.
    pub(super) places: Vec<Place>,
    /// Alerts about places that are not listed.
    pub(super) elsewhere: u64,
    /// Another letter of this kind left a short while before.
    pub(super) more: bool,
}

/// What a letter says about one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) place: String,
    pub(super) alerts: u64,
    /// The last thing that was said.
    pub(super) what: String,
    /// It is over, in words.
    pub(super) over: Option<String>,
}

impl Letter {
    fn new(alert: Alert, at: String, more: bool) -> Self {
        let mut letter = Self {
            first: alert.clone(),
            at: [at.clone(), at.clone()],
            alerts: 0,
            count: 0,
            places: Vec::new(),
            elsewhere: 0,
            more,
        };
        letter.add(alert, at);
        letter
    }

    fn add(&mut self, alert: Alert, at: String) {
        self.alerts += 1;
        self.count = self.count.saturating_add(alert.count);
        self.at[1] = at;
        if let Some(place) = self.place(&alert.place) {
            place.alerts += 1;
            place.what = alert.what;
            place.over = None;
        } else if self.places.len() < MOST_PLACES {
            self.places.push(Place { place: alert.place, alerts: 1, what: alert.what, over: None });
        } else {
            self.elsewhere += 1;
        }
    }

    fn place(&mut self, place: &str) -> Option<&mut Place> {
        self.places.iter_mut().find(|known| known.place == place)
    }
}

impl Throttle {
    /// Takes in an alert, said `at` (for people). Returns whether it goes with another one.
    pub(super) fn say(&mut self, alert: Alert, at: String, now: Duration) -> bool {
        let kind = alert.kind;
        if alert.over.is_some() {
            // What nobody was told of yet is told with its end.
            let told = self.windows.get_mut(&(kind, false)).and_then(|window| window.pending.as_mut());
            if let Some(place) = told.and_then(|(_, letter)| letter.place(&alert.place)) {
                place.over = Some(alert.what);
                return true;
            }
        } else {
            self.is_back(kind, &alert.place);
        }
        let window = self.windows.entry((kind, alert.over.is_some())).or_default();
        if let Some((_, letter)) = &mut window.pending {
            letter.add(alert, at);
            return true;
        }
        let more = window.left_at.is_some_and(|left| now < left + WINDOW);
        window.pending = Some((now, Letter::new(alert, at, more)));
        false
    }

    /// It was over at that place, but nobody was told so yet: it is not.
    fn is_back(&mut self, kind: AlertKind, place: &str) {
        let Some(window) = self.windows.get_mut(&(kind, true)) else { return };
        let Some((_, letter)) = &mut window.pending else { return };
        let Some(said) = letter.place(place).map(|known| known.alerts) else { return };
        letter.places.retain(|known| known.place != place);
        letter.alerts -= said;
        letter.count = letter.alerts;
        match letter.places.first() {
            Some(next) => {
                letter.first.place.clone_from(&next.place);
                letter.first.what.clone_from(&next.what);
            }
            None if letter.elsewhere == 0 => window.pending = None,
            None => {}
        }
    }

    /// A letter that may leave now; with `hurry` any. It counts as gone.
    pub(super) fn due(&mut self, now: Duration, hurry: bool) -> Option<Letter> {
        let is_due = |window: &Window| window.due_at().is_some_and(|at| hurry || at <= now);
        let window = self.windows.values_mut().find(|window| is_due(window))?;
        window.left_at = Some(now);
        window.pending.take().map(|(_, letter)| letter)
    }

    /// When the next letter may leave, if there is one.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.windows.values().filter_map(Window::due_at).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn failed(place: &str) -> Alert {
        Alert::new(AlertKind::StoreFailed, place, format!("put to {place}"), "wait")
    }

    fn over(place: &str) -> Alert {
        Alert::over(AlertKind::StoreFailed, place, "stored again", at(7))
    }

    fn places(letter: &Letter) -> Vec<&str> {
        letter.places.iter().map(|place| place.place.as_str()).collect()
    }

    #[test]
    fn what_happens_at_once_is_one_letter_a_second_later() {
        let mut throttle = Throttle::default();
        for place in ["t/0", "t/1", "t/0"] {
            throttle.say(failed(place), String::new(), at(10));
        }
        assert_eq!((throttle.due(at(10), false), throttle.due_at()), (None, Some(at(11))));
        let letter = throttle.due(at(11), false).unwrap();
        assert_eq!((letter.alerts, places(&letter), letter.more), (3, vec!["t/0", "t/1"], false));
        assert_eq!(throttle.due_at(), None);
    }

    #[test]
    fn more_of_a_kind_leaves_a_minute_later_though_nothing_else_happens() {
        let mut throttle = Throttle::default();
        throttle.say(failed("t/0"), String::new(), at(0));
        throttle.due(at(1), false).unwrap();
        for second in 2..20 {
            throttle.say(failed("t/1"), String::new(), at(second));
        }
        assert_eq!(throttle.due_at(), Some(at(61)));
        let letter = throttle.due(at(61), false).unwrap();
        assert_eq!((letter.alerts, places(&letter), letter.more), (18, vec!["t/1"], true));
        // Another kind has a minute of its own.
        throttle.say(Alert::new(AlertKind::KafkaFailed, "t/0", "w", "a"), String::new(), at(62));
        assert_eq!(throttle.due_at(), Some(at(63)));
    }

    #[test]
    fn an_end_leaves_soon_and_not_before_its_beginning() {
        let mut throttle = Throttle::default();
        throttle.say(failed("t/0"), String::new(), at(0));
        throttle.due(at(1), false).unwrap();
        throttle.say(over("t/0"), String::new(), at(8));
        let letter = throttle.due(at(9), false).unwrap();
        assert!(letter.first.over.is_some() && letter.alerts == 1);
        // Nobody has been told of this one: its end goes with it.
        throttle.say(failed("t/0"), String::new(), at(20));
        throttle.say(over("t/0"), String::new(), at(30));
        assert_eq!(throttle.due_at(), Some(at(61)));
        let letter = throttle.due(at(61), false).unwrap();
        assert!(letter.places[0].over.is_some() && letter.first.over.is_none());
        assert_eq!(throttle.due_at(), None);
    }

    #[test]
    fn what_is_back_before_anybody_heard_of_its_end_is_not_over() {
        let mut throttle = Throttle::default();
        for place in ["t/0", "t/1"] {
            throttle.say(failed(place), String::new(), at(0));
        }
        throttle.due(at(1), false).unwrap();
        for place in ["t/0", "t/1"] {
            throttle.say(over(place), String::new(), at(5));
        }
        throttle.say(failed("t/0"), String::new(), at(5));
        let ended = throttle.due(at(6), false).unwrap();
        assert_eq!((places(&ended), ended.first.place.as_str(), ended.alerts), (vec!["t/1"], "t/1", 1));
        throttle.say(over("t/1"), String::new(), at(7));
        throttle.say(failed("t/1"), String::new(), at(8));
        assert_eq!(throttle.due(at(61), false).map(|letter| letter.alerts), Some(2));
        assert_eq!(throttle.due_at(), None);
    }

    #[test]
    fn in_a_hurry_everything_leaves() {
        let mut throttle = Throttle::default();
        throttle.say(failed("t/0"), String::new(), at(0));
        assert!(throttle.due(at(0), true).is_some());
        throttle.say(failed("t/0"), String::new(), at(0));
        assert!(throttle.due(at(0), true).is_some_and(|letter| letter.more));
        assert!(throttle.due(at(0), true).is_none());
    }

    proptest! {
        /// Whatever happens when: every alert is in one letter, and no two letters of a kind are close together.
        #[test]
        fn nothing_is_dropped_and_nobody_is_flooded(steps in prop::collection::vec((0u64..40, 0usize..2, 0usize..80), 1..300)) {
            let kinds = [AlertKind::StoreFailed, AlertKind::KafkaFailed];
            let mut throttle = Throttle::default();
            let (mut now, mut said, mut told) = (0, [0; 2], [0; 2]);
            let mut left: [Vec<u64>; 2] = Default::default();
            for (wait, kind, place) in steps {
                said[kind] += 1;
                throttle.say(Alert::new(kinds[kind], format!("t/{place}"), "w", "a"), String::new(), at(now));
                for second in now..=now + wait {
                    while let Some(letter) = throttle.due(at(second), false) {
                        let kind = usize::from(letter.first.kind == kinds[1]);
                        told[kind] += letter.alerts;
                        let listed: u64 = letter.places.iter().map(|place| place.alerts).sum();
                        prop_assert_eq!(listed + letter.elsewhere, letter.alerts);
                        prop_assert!(letter.places.len() <= MOST_PLACES);
                        left[kind].push(second);
                    }
                }
                now += wait;
            }
            while let Some(letter) = throttle.due(at(now), true) {
                told[usize::from(letter.first.kind == kinds[1])] += letter.alerts;
            }
            prop_assert_eq!(told, said);
            for times in left {
                prop_assert!(times.windows(2).all(|pair| pair[1] >= pair[0] + 60));
            }
        }
    }
}
