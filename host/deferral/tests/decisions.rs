//! Which answers can be carried out, and what happens instead of those that cannot.

use restante_deferral::decision::validate::{self, Impossible, MAX_REASON_BYTES, Offered, Situation};
use restante_deferral::decision::{
    AfterDeadline, AttemptKind, DeliveryStep, ExpiryAction, ExpiryAnswer, FailureAction, FailureAnswer, HandOverStep,
    HoldStep, IncomingAnswer, Keep, NotifyStep, Plan, PullDelivery, Rejection, Retry, Step, Target, fallback,
};
use restante_deferral::model::{
    CanonicalAddress, ContactId, Duration, ExpirySource, MessageId, MessageKind, Mode, Origin, Timestamp,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const PHONE: ContactId = ContactId(1);
const TABLET: ContactId = ContactId(2);

fn targets() -> Vec<String> {
    vec![String::from("sms")]
}

/// Fits both ways, to both contacts.
fn offered(id: u64) -> Offered {
    Offered {
        id: MessageId(id),
        kind: MessageKind::Message,
        sender: CanonicalAddress("sip:alice@example.org".into()),
        page_refused: false,
        large_refused: false,
        waits: false,
        page_contacts: vec![PHONE, TABLET],
        large_contacts: vec![PHONE, TABLET],
    }
}

fn step(ids: &[u64], target: Target) -> DeliveryStep {
    DeliveryStep { messages: ids.iter().copied().map(MessageId).collect(), target }
}

#[test]
fn refusals() {
    let refusal = |status, reason: &str| Rejection { status, reason: reason.to_owned(), retry_after_seconds: None };
    let long = "x".repeat(MAX_REASON_BYTES + 1);
    let table = [
        (refusal(400, ""), true),
        (refusal(403, "Over Quota"), true),
        (refusal(699, ""), true),
        (refusal(200, ""), false),
        (refusal(399, ""), false),
        (refusal(700, ""), false),
        (refusal(401, ""), false),
        (refusal(407, ""), false),
        (refusal(503, ""), false),
        (refusal(403, "two\r\nlines"), false),
        (refusal(403, &long), false),
    ];
    for (refusal, possible) in table {
        assert_eq!(validate::rejection(&refusal).is_ok(), possible, "{refusal:?}");
    }
}

#[test]
fn answers_to_an_arrival() {
    let keep = |expires_at| Keep { expires_at, priority: 0, deliver_now: false };
    let later = NOW.after(Duration(1));
    let table = [
        (IncomingAnswer::Keep(keep(later)), true, Ok(())),
        (IncomingAnswer::Keep(keep(NOW)), true, Err(Impossible::Past)),
        (IncomingAnswer::Keep(keep(NOW)), false, Ok(())),
        (IncomingAnswer::HandOver(String::from("sms")), true, Ok(())),
        (IncomingAnswer::HandOver(String::from("fax")), true, Err(Impossible::UnknownTarget)),
        (IncomingAnswer::Discard(String::new()), true, Ok(())),
    ];
    for (answer, stores, expected) in table {
        assert_eq!(validate::incoming(&answer, NOW, stores, &targets()), expected, "{answer:?}");
    }
}

#[test]
fn plans() {
    let mut large_only = offered(2);
    large_only.page_contacts.clear();
    let mut page_only = offered(3);
    page_only.large_contacts = vec![TABLET];
    let messages = [offered(1), large_only, page_only];
    let soon = |milliseconds| {
        let messages = vec![MessageId(1)];
        let fetch_deadline = NOW.after(Duration(milliseconds));
        Step::Notify(NotifyStep { messages, fetch_deadline, afterwards: AfterDeadline::Ask })
    };
    let hand_over = |target: &str| Step::HandOver(HandOverStep { messages: vec![MessageId(1)], target: target.into() });
    let table: Vec<(Vec<Step>, Result<(), Impossible>)> = vec![
        (vec![], Ok(())),
        (vec![Step::Page(step(&[1, 3], Target::Any)), Step::Session(step(&[2], Target::Contact(PHONE)))], Ok(())),
        (vec![Step::Page(step(&[4], Target::Any))], Err(Impossible::UnknownMessage)),
        (vec![Step::Hold(HoldStep { messages: vec![MessageId(9)], until: None })], Err(Impossible::UnknownMessage)),
        (vec![Step::Page(step(&[1, 1], Target::Any))], Err(Impossible::NamedTwice)),
        (
            vec![Step::Page(step(&[1], Target::Any)), Step::Session(step(&[1], Target::Any))],
            Err(Impossible::NamedTwice),
        ),
        (vec![Step::Page(step(&[2], Target::Any))], Err(Impossible::NotPage)),
        (vec![Step::Session(step(&[3], Target::Contact(PHONE)))], Err(Impossible::NotLarge)),
        (vec![Step::Session(step(&[3], Target::Contact(TABLET)))], Ok(())),
        (vec![Step::Page(step(&[1], Target::Contact(ContactId(7))))], Err(Impossible::UnknownContact)),
        (vec![Step::Page(step(&[], Target::Any)); 12], Err(Impossible::TooManySteps)),
        (vec![soon(999)], Err(Impossible::Past)),
        (vec![soon(1000)], Ok(())),
        (vec![hand_over("sms")], Ok(())),
        (vec![hand_over("fax")], Err(Impossible::UnknownTarget)),
    ];
    let targets = targets();
    let contacts = [PHONE, TABLET];
    let situation = Situation { now: NOW, messages: &messages, contacts: &contacts, hand_over_targets: &targets };
    for (steps, expected) in table {
        let plan = Plan { steps, ask_again_at: None };
        assert_eq!(validate::plan(&plan, situation), expected, "{plan:?}");
    }
}

#[test]
fn answers_to_a_pull() {
    let shown = [MessageId(1), MessageId(2)];
    let only_the_first_fits = |id: MessageId| id.0 == 1;
    let table = [
        (vec![1, 2], Mode::Large, Ok(())),
        (vec![], Mode::Large, Ok(())),
        (vec![3], Mode::Large, Err(Impossible::UnknownMessage)),
        (vec![1, 1], Mode::Large, Err(Impossible::NamedTwice)),
        (vec![1], Mode::Page, Ok(())),
        (vec![1, 2], Mode::Page, Err(Impossible::NotPage)),
    ];
    for (ids, mode, expected) in table {
        let messages = ids.into_iter().map(MessageId).collect();
        let delivery = PullDelivery { messages, mode, keep_copy: false };
        assert_eq!(validate::pull(&delivery, &shown, only_the_first_fits), expected, "{delivery:?}");
    }
}

#[test]
fn answers_to_failures_and_expiries() {
    let failure = |message, action| FailureAnswer { message: MessageId(message), action };
    let shown = [MessageId(1), MessageId(2)];
    let table = [
        (vec![], Ok(())),
        (vec![failure(1, FailureAction::Wait), failure(2, FailureAction::GiveUp(true))], Ok(())),
        (vec![failure(3, FailureAction::Wait)], Err(Impossible::UnknownMessage)),
        (vec![failure(1, FailureAction::Wait), failure(1, FailureAction::Wait)], Err(Impossible::NamedTwice)),
        (vec![failure(1, FailureAction::Notify(NOW))], Err(Impossible::Past)),
        (vec![failure(1, FailureAction::HandOver(String::from("fax")))], Err(Impossible::UnknownTarget)),
    ];
    for (answers, expected) in table {
        assert_eq!(validate::failure(&answers, &shown, NOW, &targets()), expected, "{answers:?}");
    }
    let expiry = |message, action| vec![ExpiryAnswer { message: MessageId(message), action }];
    let shown = [(MessageId(1), ExpirySource::Sender), (MessageId(2), ExpirySource::Operator)];
    let later = NOW.after(Duration(1));
    let table = [
        (expiry(1, ExpiryAction::Drop(false)), Ok(())),
        (expiry(1, ExpiryAction::Extend(later)), Err(Impossible::SendersExpiry)),
        (expiry(2, ExpiryAction::Extend(later)), Ok(())),
        (expiry(2, ExpiryAction::Extend(NOW)), Err(Impossible::Past)),
        (expiry(3, ExpiryAction::Drop(true)), Err(Impossible::UnknownMessage)),
        (expiry(2, ExpiryAction::HandOver(String::from("fax"))), Err(Impossible::UnknownTarget)),
    ];
    for (answers, expected) in table {
        assert_eq!(validate::expiry(&answers, &shown, NOW, &targets()), expected, "{answers:?}");
    }
}

#[test]
fn only_a_devices_word_about_a_page_mode_message_is_permanent() {
    for status in 300..=699_u16 {
        let permanent = matches!(status, 403 | 404 | 410) || status >= 600;
        assert_eq!(validate::is_permanent(Origin::Device, true, Some(status)), permanent, "{status}");
        assert!(!validate::is_permanent(Origin::Device, false, Some(status)));
        for origin in [Origin::Core, Origin::Timeout, Origin::Transport] {
            assert!(!validate::is_permanent(origin, true, Some(status)));
        }
    }
    assert!(!validate::is_permanent(Origin::Device, true, None));
}

#[test]
fn the_fallback_keeps_to_the_senders_expiry() {
    let week = Duration::from_secs(7 * 24 * 3600);
    for (senders, expected) in [(Some(NOW.after(Duration(5))), NOW.after(Duration(5))), (None, NOW.after(week))] {
        let IncomingAnswer::Keep(keep) = fallback::incoming(NOW, senders, week) else { panic!("keeps") };
        assert_eq!((keep.expires_at, keep.priority, keep.deliver_now), (expected, 100, true));
    }
}

#[test]
fn the_fallbacks_plan_is_always_possible() {
    // Every combination of what can be known of three messages.
    for bits in 0..1_u32 << 12 {
        let messages: Vec<Offered> = (0..3)
            .map(|index| {
                let bit = |offset: u32| bits >> (index * 4 + offset) & 1 == 1;
                let mut message = offered(u64::from(index) + 1);
                message.page_refused = bit(0);
                message.large_refused = bit(1);
                message.page_contacts.retain(|_| !bit(2));
                message.large_contacts.retain(|_| !bit(3));
                message
            })
            .collect();
        let plan = fallback::available(&messages);
        let contacts = [PHONE, TABLET];
        let situation = Situation { now: NOW, messages: &messages, contacts: &contacts, hand_over_targets: &[] };
        assert_eq!(validate::plan(&plan, situation), Ok(()), "{messages:?}");
        // Whatever can go at all goes.
        for message in &messages {
            let can_go = !message.page_contacts.is_empty() || !message.large_contacts.is_empty();
            let goes = plan.steps.iter().any(|step| step.messages().contains(&message.id));
            assert_eq!(goes, can_go, "{message:?}");
        }
    }
}

#[test]
fn what_is_announced_or_held_stays_so_without_a_decision() {
    let mut waits = offered(1);
    waits.waits = true;
    let plan = fallback::available(&[waits, offered(2)]);
    assert_eq!(plan.steps, [Step::Page(step(&[2], Target::Any))]);
}

#[test]
fn the_built_in_schedule() {
    let failed = fallback::Failed {
        attempt: AttemptKind::Page,
        attempts: 1,
        page_refused: false,
        large_refused: false,
        fits_page: true,
        fits_large: true,
    };
    for (attempts, seconds) in [(1, 30), (2, 120), (3, 600), (4, 3600)] {
        let retry = Retry { after_milliseconds: seconds * 1000, mode: None, contact: None };
        let action = fallback::failure(fallback::Failed { attempts, ..failed });
        assert_eq!(action, FailureAction::Retry(retry));
    }
    assert_eq!(fallback::failure(fallback::Failed { attempts: 5, ..failed }), FailureAction::Wait);
    assert_eq!(fallback::failure(fallback::Failed { attempt: AttemptKind::Pull, ..failed }), FailureAction::Wait);
    let refused = fallback::Failed { page_refused: true, ..failed };
    let other_mode = Retry { after_milliseconds: 30_000, mode: Some(Mode::Large), contact: None };
    assert_eq!(fallback::failure(refused), FailureAction::Retry(other_mode));
    let both = fallback::Failed { large_refused: true, ..refused };
    assert_eq!(fallback::failure(both), FailureAction::Wait);
}
