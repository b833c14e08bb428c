//! Who has time to wait for a score, and is it taken only where it must be?

use super::*;

/// Reads what is as long as that at once, and what is longer in no hurry, up to a bound as well.
struct Hurried(parking_lot::Mutex<Vec<Patience>>);

const AT_ONCE: usize = 2_000;
const AT_ALL: usize = 20_000;

#[async_trait]
impl SemanticScorer for Hurried {
    fn read(&self, message: &Message, patience: Patience) -> Result<Words, Unscored> {
        self.0.lock().push(patience);
        let mut bytes = 0;
        for_each_text(message, &mut |text| bytes += text.len());
        let max = if patience == Patience::RoundTrip { AT_ONCE } else { AT_ALL };
        match bytes > max {
            true => Err(Unscored::TooLong { windows: 2, max: 1 }),
            false => Ok(Words::Scored(Semantic::from(0.3))),
        }
    }

    async fn score(&self, words: Words) -> Result<Semantic, Unscored> {
        match words {
            Words::Scored(score) => Ok(score),
            Words::Texts(_) => Err(Unscored::Failed),
        }
    }

    fn score_in_background(&self, _: Words, _: Box<dyn FnOnce(f64) + Send>) {}

    fn cost(&self) -> Cost {
        Cost::Low
    }

    fn name(&self) -> &str {
        "hurried"
    }
}

#[tokio::test]
async fn what_is_asked_or_answered_takes_its_time_only_where_it_is_too_long_to_be_read_at_once() {
    let (scorer, seen) = (Arc::new(Hurried(parking_lot::Mutex::default())), Arc::new(Seen::default()));
    let assessor =
        Assessor::new(Arc::clone(&scorer) as Arc<dyn SemanticScorer>, Settings::default(), unshared())
            .unwrap()
            .metered(Arc::clone(&seen) as Arc<dyn Meter>);
    let tenant = tenant();
    let within = Patience::Within(Duration::from_secs(8));
    for (bytes, patience, read, scored) in [
        (100, within, &[Patience::RoundTrip][..], true),
        (AT_ONCE * 2, within, &[Patience::RoundTrip, within], true),
        (AT_ONCE * 2, Patience::RoundTrip, &[Patience::RoundTrip], false),
        (AT_ONCE * 2, Patience::Lane, &[Patience::Lane], true),
        (AT_ALL * 2, within, &[Patience::RoundTrip, within], false),
    ] {
        scorer.0.lock().clear();
        seen.0.lock().clear();
        let message = Arc::new(message("a", &text(&"x".repeat(bytes))));
        let observation = assessor.observe(&message, &tenant, NOON).await;
        let need = (Need::Demanded, patience);
        let found = assessor.assess(&message, &tenant, observation.past(), need, NOON).await;
        assert_eq!(found.is_ok(), scored, "{bytes} bytes, {patience:?}: {found:?}");
        assert_eq!(*scorer.0.lock(), read, "{bytes} bytes, {patience:?}");
        let unscored = seen.0.lock().iter().filter(|it| matches!(it, Event::Unscored { .. })).count();
        assert_eq!(
            unscored,
            usize::from(!scored),
            "{bytes} bytes, {patience:?}: counted once, if it has none"
        );
    }
}

#[test]
fn a_text_has_the_room_of_who_waits_for_it_and_never_more_than_where_nobody_does() {
    let settings = Settings::default();
    let [brief, long] = [Patience::RoundTrip, Patience::Lane].map(|it| settings.room(it));
    for seconds in [0, 1, 10, 60] {
        let limit = Duration::from_secs(seconds);
        let room = settings.room(Patience::Within(limit));
        assert_eq!(room, Room { windows: long.windows, deadline: limit.min(long.deadline) });
    }
    assert!(brief.windows < long.windows && brief.deadline < long.deadline);
}
