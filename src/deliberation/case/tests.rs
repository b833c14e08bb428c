//! What each rule promises, vote by vote, and which logs are refused.

use super::*;
use crate::domain::{Rule, RuleKind, Voter, Why};

const PARKED: u64 = 1_000_000;
const ESCALATES: u64 = PARKED + 4 * 3_600_000;
const DEADLINE: u64 = PARKED + 24 * 3_600_000;
const DIGEST: &str = "d1";

fn id(agent: &str) -> AgentId {
    agent.parse().unwrap()
}

/// `a:judicial+monitor*3 b` are two people, the first with two roles and weight 3.
fn people(text: &str) -> std::collections::BTreeMap<AgentId, Voter> {
    let one = |word: &str| {
        let (rest, weight) = word.split_once('*').unwrap_or((word, "1"));
        let (name, roles) = rest.split_once(':').unwrap_or((rest, ""));
        let roles = roles.split('+').filter(|role| !role.is_empty()).map(str::to_owned).collect();
        (id(name), Voter { roles, weight: weight.parse().unwrap() })
    };
    text.split_whitespace().map(one).collect()
}

fn parked(kind: RuleKind, voters: &str, stand_ins: &str) -> Parked {
    Parked {
        id: "0123456789abcdef01234567".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        sender: id("planner"),
        message_id: "m-1".parse().unwrap(),
        message: "{}".to_owned(),
        digest: DIGEST.to_owned(),
        why: Why::Policy,
        notes: Default::default(),
        impact: None,
        policy_revision: String::new(),
        decision_id: "d".to_owned(),
        node: "n".to_owned(),
        rule: Rule { kind, min_approvals: 1, distinct_roles: 2 },
        voters: people(voters),
        stand_ins: people(stand_ins),
        parked_at: Timestamp(PARKED),
        escalate_at: Some(Timestamp(ESCALATES)),
        deadline: Timestamp(DEADLINE),
        traceparent: None,
    }
}

fn case(parked: Parked) -> Case {
    Case::replay([(1, Event::Parked(Box::new(parked)))]).unwrap().unwrap()
}

/// `+a -b` are an approval and a rejection, `^` an escalation, in order; all count. How it ends.
fn run(case: &mut Case, votes: &str) -> Option<Judgement> {
    for word in votes.split_whitespace() {
        let event = match word.split_at(1) {
            ("^", _) => case.tick(Timestamp(ESCALATES)).expect("it escalates"),
            (sign, name) => {
                let choice = if sign == "+" { Choice::Approve } else { Choice::Reject };
                case.vote(&id(name), choice, DIGEST, "", Timestamp(PARKED + 1)).expect(word)
            }
        };
        case.add(case.version + 1, event).expect(word);
    }
    case.decision.as_ref().map(|decision| decision.judgement)
}

#[track_caller]
fn ends(parked: &Parked, votes: &str, expected: Option<Judgement>) -> Case {
    let mut case = case(parked.clone());
    let found = run(&mut case, votes);
    assert_eq!(found, expected, "{votes} by {:?}: {:?}", parked.rule, case.tally());
    case
}

use Judgement::{Approved, Denied, Expired};

#[test]
fn quorum_is_more_than_half_of_the_voters() {
    let three = parked(RuleKind::Quorum, "a b c", "");
    ends(&three, "+a", None);
    ends(&three, "+a +b", Some(Approved));
    ends(&three, "+a -b", None);
    ends(&three, "+a -b +c", Some(Approved));
    ends(&three, "-a -b", Some(Denied));
    let four = parked(RuleKind::Quorum, "a b c d", "");
    ends(&four, "+a +b", None);
    ends(&four, "+a +b +c", Some(Approved));
    ends(&four, "+a -b", None);
    ends(&four, "+a -b -c", Some(Denied));
    ends(&parked(RuleKind::Quorum, "a", ""), "+a", Some(Approved));
    ends(&parked(RuleKind::Quorum, "a", ""), "-a", Some(Denied));
}

#[test]
fn unanimous_is_all_of_them() {
    let three = parked(RuleKind::Unanimous, "a b c", "");
    ends(&three, "+a +b", None);
    ends(&three, "+a +b +c", Some(Approved));
    ends(&three, "+a +b -c", Some(Denied));
    ends(&three, "-a", Some(Denied));
}

#[test]
fn super_majority_is_two_thirds_and_denied_by_more_than_one() {
    let three = parked(RuleKind::SuperMajority, "a b c", "");
    ends(&three, "+a +b", Some(Approved));
    ends(&three, "-a", None);
    ends(&three, "-a +b -c", Some(Denied));
    let four = parked(RuleKind::SuperMajority, "a b c d", "");
    ends(&four, "+a +b", None);
    ends(&four, "+a +b +c", Some(Approved));
    ends(&four, "-a -b", Some(Denied));
    let six = parked(RuleKind::SuperMajority, "a b c d e f", "");
    ends(&six, "+a +b +c", None);
    ends(&six, "+a +b +c +d", Some(Approved));
    ends(&six, "-a -b", None);
    ends(&six, "-a -b -c", Some(Denied));
}

#[test]
fn weighted_is_more_than_half_of_the_weight() {
    let voters = parked(RuleKind::Weighted, "a*3 b*2 c*1", "");
    ends(&voters, "+a", None);
    ends(&voters, "+a +c", Some(Approved));
    ends(&voters, "+b +c", None);
    ends(&voters, "-a", Some(Denied));
    ends(&voters, "-b", None);
    ends(&voters, "-b -c", Some(Denied));
    let one_rules = parked(RuleKind::Weighted, "a*10 b c", "");
    ends(&one_rules, "+b +c", None);
    ends(&one_rules, "+a", Some(Approved));
}

#[test]
fn roles_are_stood_for_by_different_people() {
    let voters = parked(RuleKind::Roles, "a:judicial+monitor b:judicial c:monitor d", "");
    ends(&voters, "+a", None);
    ends(&voters, "+a +b", Some(Approved));
    ends(&voters, "+b +a", Some(Approved));
    ends(&voters, "+b +d", None);
    ends(&voters, "+b +d +c", Some(Approved));
    ends(&voters, "+b -d", Some(Denied));
}

#[test]
fn at_least_so_many_approve_in_any_case() {
    let mut voters = parked(RuleKind::Weighted, "a*10 b c", "");
    voters.rule.min_approvals = 2;
    ends(&voters, "+a", None);
    ends(&voters, "+a +b", Some(Approved));
    ends(&voters, "+a -b", None);
    let mut quorum = parked(RuleKind::Quorum, "a b c", "s");
    quorum.rule.min_approvals = 3;
    ends(&quorum, "+a +b", None);
    // Three of the voters cannot approve any more, and a stand-in may.
    ends(&quorum, "+a +b -c", None);
    ends(&quorum, "+a +b -c ^ +s", Some(Approved));
    ends(&quorum, "+a -b -c", Some(Denied));
}

#[test]
fn stand_ins_change_who_may_vote_and_not_what_is_needed() {
    let voters = parked(RuleKind::Quorum, "a b c", "s t u");
    ends(&voters, "^ +s +t", Some(Approved));
    ends(&voters, "+a ^ -s -t", Some(Denied));
    ends(&parked(RuleKind::Unanimous, "a b", "s t"), "+a ^ +s", Some(Approved));
    ends(&parked(RuleKind::Roles, "a:judicial", "s:controller"), "+a ^ +s", Some(Approved));
    ends(&parked(RuleKind::Weighted, "a*2 b*2", "s*5"), "^ +s", Some(Approved));
}

#[test]
fn with_stand_ins_only_it_is_escalated_at_once_and_one_decides() {
    for kind in [RuleKind::Quorum, RuleKind::Unanimous, RuleKind::SuperMajority, RuleKind::Weighted] {
        let alone = parked(kind, "", "s*4 t");
        let mut case = case(alone);
        assert_eq!(case.due(), Some(Timestamp(PARKED)));
        let later = case.vote(&id("s"), Choice::Approve, DIGEST, "", Timestamp(PARKED));
        assert_eq!(later, Err(VoteRefused::NotAVoter { later: true }));
        let escalated = case.tick(Timestamp(PARKED)).expect("at once");
        assert_eq!(escalated, Event::Escalated { at: Timestamp(PARKED) });
        case.add(2, escalated).unwrap();
        assert_eq!(case.due(), Some(Timestamp(DEADLINE)));
        assert_eq!(run(&mut case, "+t"), Some(Approved));
    }
}

#[test]
fn a_vote_is_refused_for_the_first_reason_that_holds() {
    let open = case(parked(RuleKind::Quorum, "a b c planner", "s"));
    let late = Timestamp(DEADLINE);
    let soon = Timestamp(DEADLINE - 1);
    #[track_caller]
    fn check(case: &Case, voter: &str, digest: &str, now: Timestamp, expected: &VoteRefused, text: &str) {
        let refused = case.vote(&id(voter), Choice::Reject, digest, "", now).expect_err(text);
        assert_eq!(&refused, expected);
        assert!(refused.to_string().contains(text), "{refused}");
    }
    check(&open, "planner", "other", late, &VoteRefused::Late(late), "over at 1970-01-02T00:16:40Z");
    check(&open, "planner", "other", soon, &VoteRefused::Own, "own message");
    check(&open, "s", "other", soon, &VoteRefused::NotAVoter { later: true }, "until it is escalated");
    check(&open, "z", "other", soon, &VoteRefused::NotAVoter { later: false }, "not among its voters");
    let other = VoteRefused::OtherContent { found: "\"other\"".to_owned(), parked: DIGEST.to_owned() };
    check(&open, "a", "other", soon, &other, "\"other\"");
    let voted = ends(&open.parked, "+a", None);
    check(&voted, "a", "other", soon, &VoteRefused::Again(Choice::Approve), "voted before: approve");
    check(&voted, "s", DIGEST, soon, &VoteRefused::NotAVoter { later: true }, "until");
    let closed = ends(&open.parked, "+a +b +c", Some(Approved));
    check(&closed, "a", "other", late, &VoteRefused::Closed(Approved), "is decided: approved");
    assert_eq!(
        VoteRefused::Late(Timestamp(u64::MAX)).to_string(),
        "its time was over at 9999-12-31T23:59:59Z"
    );
}

#[test]
fn time_escalates_then_expires_and_expiry_goes_first() {
    let mut case = case(parked(RuleKind::Quorum, "a b", "s"));
    assert_eq!((case.due(), case.tick(Timestamp(ESCALATES - 1))), (Some(Timestamp(ESCALATES)), None));
    let Some(Event::Decided { judgement: Expired, .. }) = case.tick(Timestamp(DEADLINE)) else {
        panic!("a node that was away does not escalate what is over");
    };
    let escalated = case.tick(Timestamp(ESCALATES)).unwrap();
    assert_eq!(escalated.kind(), "escalated");
    case.add(2, escalated).unwrap();
    assert_eq!((case.due(), case.tick(Timestamp(DEADLINE - 1))), (Some(Timestamp(DEADLINE)), None));
    run(&mut case, "+a");
    let expired = case.tick(Timestamp(DEADLINE)).unwrap();
    case.add(4, expired).unwrap();
    assert_eq!((case.due(), case.tick(Timestamp(DEADLINE))), (None, None));
    assert_eq!(case.approval(), None);
}

#[test]
fn without_stand_ins_nothing_escalates() {
    let case = case(parked(RuleKind::Quorum, "a b", ""));
    assert_eq!((case.due(), case.tick(Timestamp(ESCALATES))), (Some(Timestamp(DEADLINE)), None));
}

#[test]
fn a_decision_says_who_made_it() {
    #[track_caller]
    fn says(case: &Case, expected: &str) {
        assert_eq!(case.decision.as_ref().map(|decision| decision.detail.as_str()), Some(expected));
    }
    let two = parked(RuleKind::Quorum, "judge steward", "");
    says(&ends(&two, "+judge +steward", Some(Approved)), "approved by judge and steward");
    says(&ends(&two, "-judge", Some(Denied)), "denied: judge rejected it");
    let mut late = ends(&two, "+judge", None);
    late.add(9, late.tick(Timestamp(DEADLINE)).unwrap()).unwrap();
    says(&late, "nobody decided within 24 h: 1 of 2 approvals");
    let many: Vec<String> = (0..19).map(|number| format!("v{number}")).collect();
    let votes: Vec<String> = many.iter().take(10).map(|name| format!("+{name}")).collect();
    let crowd = ends(&parked(RuleKind::Quorum, &many.join(" "), ""), &votes.join(" "), Some(Approved));
    says(&crowd, "approved by v0, v1, v2, v3, v4, v5, v6, v7 and 2 more");
}

#[test]
fn spans_are_told_in_the_units_they_need() {
    for (millis, expected) in [
        (0, "0 s"),
        (86_400_000, "24 h"),
        (5_400_000, "1 h 30 min"),
        (1_500, "1 s 500 ms"),
        (61_000, "1 min 1 s"),
    ] {
        assert_eq!(span(millis), expected);
    }
}

#[test]
fn a_tally_is_in_the_rules_own_unit() {
    #[track_caller]
    fn check(parked: &Parked, votes: &str, approves: &str, denies: &str) {
        let tally = ends(parked, votes, None).tally();
        assert_eq!((tally.approves.as_str(), tally.denies.as_str()), (approves, denies));
    }
    check(&parked(RuleKind::Quorum, "a b c", ""), "+a -b", "1 of 2 approvals", "1 of 2 rejections");
    check(&parked(RuleKind::Unanimous, "a b c", ""), "+a", "1 of 3 approvals", "0 of 1 rejection");
    check(
        &parked(RuleKind::Weighted, "a*3 b*2 c", ""),
        "+b",
        "weight 2 of 4 for it",
        "weight 0 of 3 against it",
    );
    let mut roles = parked(RuleKind::Roles, "a:x b:y c:z", "");
    check(&roles, "+a", "1 of 2 roles", "0 of 1 rejection");
    roles.rule.min_approvals = 3;
    check(&roles, "+a +b", "2 of 2 roles and 2 of 3 approvals", "0 of 1 rejection");
    let mut quorum = parked(RuleKind::Quorum, "a b c", "");
    quorum.rule.min_approvals = 3;
    check(&quorum, "+a +b", "2 of 3 approvals", "0 of 2 rejections");
}

#[test]
fn the_policy_is_told_who_approved_with_which_roles() {
    let voters = parked(RuleKind::Quorum, "a:judicial b c", "s:controller+monitor");
    let case = ends(&voters, "+a -b ^ +s", Some(Approved));
    let approval = serde_json::to_value(case.approval().unwrap()).unwrap();
    let expected = serde_json::json!({
        "deliberation": "0123456789abcdef01234567",
        "rule": "quorum",
        "approvals": [
            {"id": "a", "roles": ["judicial"]},
            {"id": "s", "roles": ["controller", "monitor"]},
        ],
        "escalated": true,
    });
    assert_eq!(approval, expected);
    assert_eq!(ends(&voters, "-a -b", Some(Denied)).approval(), None);
}

#[test]
fn a_long_comment_is_cut_between_characters() {
    let open = case(parked(RuleKind::Quorum, "a b", ""));
    let long = format!("{}ß{}", "x".repeat(511), "y".repeat(500));
    let Ok(Event::Vote(vote)) = open.vote(&id("a"), Choice::Approve, DIGEST, &long, Timestamp(PARKED)) else {
        panic!("a vote");
    };
    assert_eq!(vote.comment, "x".repeat(511));
}

#[test]
fn an_empty_log_is_no_case() {
    assert_eq!(Case::replay([]), Ok(None));
}

#[test]
fn logs_that_no_run_can_have_written_are_refused() {
    let vote = |voter: &str, choice, at| Vote {
        voter: id(voter),
        choice,
        comment: String::new(),
        at: Timestamp(at),
    };
    let soon = PARKED + 1;
    let voted = |voter, at| Event::Vote(vote(voter, Choice::Approve, at));
    let decided =
        |judgement, at, vote| Event::Decided { judgement, at: Timestamp(at), detail: String::new(), vote };
    let approved = |voter| decided(Approved, soon, Some(vote(voter, Choice::Approve, soon)));
    let escalated = |at| Event::Escalated { at: Timestamp(at) };
    let concluded = || Event::Concluded {
        at: Timestamp(soon),
        reason: "delivered".to_owned(),
        decision_id: "d".to_owned(),
        detail: String::new(),
    };
    let begun = || Event::Parked(Box::new(parked(RuleKind::Quorum, "a b c", "s planner")));
    let whole = vec![begun(), voted("a", soon), escalated(ESCALATES), approved("s"), concluded()];
    let numbered = |events: Vec<Event>| Case::replay((1..).zip(events));
    let case = numbered(whole).unwrap().unwrap();
    assert_eq!((case.version, case.votes.len(), case.conclusion.is_some()), (5, 2, true));

    let long = Event::Vote(Vote { comment: "x".repeat(513), ..vote("a", Choice::Approve, soon) });
    let late = vote("b", Choice::Approve, DEADLINE);
    for (events, position, why) in [
        (vec![voted("a", soon)], 1, "nothing is parked yet"),
        (vec![begun(), begun()], 2, "it was parked before"),
        (vec![begun(), voted("a", soon), voted("a", soon)], 3, "the voter voted before"),
        (vec![begun(), voted("z", soon)], 2, "the voter may not vote"),
        (vec![begun(), voted("s", soon)], 2, "the voter may not vote"),
        (vec![begun(), voted("planner", soon)], 2, "the sender votes"),
        (vec![begun(), voted("a", DEADLINE)], 2, "the vote is late"),
        (vec![begun(), long], 2, "its comment is longer than a comment may be"),
        (vec![begun(), voted("a", soon), voted("b", soon)], 3, "the vote decides, and the event does not"),
        (vec![begun(), approved("a")], 2, "the votes do not bear it out"),
        (
            vec![begun(), voted("a", soon), decided(Denied, soon, Some(vote("b", Choice::Approve, soon)))],
            3,
            "the votes do not bear it out",
        ),
        (vec![begun(), voted("a", soon), approved("a")], 3, "the voter voted before"),
        (vec![begun(), voted("a", soon), decided(Approved, DEADLINE, Some(late))], 3, "the vote is late"),
        (
            vec![
                begun(),
                voted("a", soon),
                decided(Approved, soon + 1, Some(vote("b", Choice::Approve, soon))),
            ],
            3,
            "it was decided at another time than its vote",
        ),
        (vec![begun(), decided(Approved, soon, None)], 2, "no vote decides it"),
        (vec![begun(), decided(Expired, DEADLINE - 1, None)], 2, "its time was not over"),
        (
            vec![begun(), decided(Expired, soon, Some(vote("a", Choice::Approve, soon)))],
            2,
            "it expires by a vote",
        ),
        (vec![begun(), escalated(ESCALATES - 1)], 2, "it was not to be escalated then"),
        (vec![begun(), escalated(DEADLINE)], 2, "it was not to be escalated then"),
        (vec![begun(), escalated(ESCALATES), escalated(ESCALATES)], 3, "it was not to be escalated then"),
        (vec![begun(), concluded()], 2, "it is not decided yet"),
        (vec![begun(), voted("a", soon), approved("b"), voted("c", soon)], 4, "it was decided before"),
        (vec![begun(), voted("a", soon), approved("b"), approved("c")], 4, "it was decided before"),
        (
            vec![begun(), voted("a", soon), approved("b"), decided(Expired, DEADLINE, None)],
            4,
            "it was decided before",
        ),
        (
            vec![begun(), voted("a", soon), approved("b"), concluded(), concluded()],
            5,
            "it was concluded before",
        ),
    ] {
        let error = numbered(events).expect_err(why);
        assert_eq!((error.position, error.why), (position, why));
    }
    let twice = Case::replay([(7, begun()), (7, voted("a", soon))]);
    assert_eq!(twice.unwrap_err().why, "its sequence is not above that of the event before");
}
