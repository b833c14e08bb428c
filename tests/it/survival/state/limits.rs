//! Do nodes that lease from one account keep to its rate together?

use std::time::{Duration, Instant};

use agentbus::state::{Leased, RuleAccount, SharedLimits as _, SharedRate};

use super::{LIFETIMES, Node, SOON, Server, agent, eventually, tenant};

/// One in six seconds, so that a busy machine adds few.
const RATE: SharedRate = SharedRate { per_minute: 10, burst: 20 };

#[tokio::test]
async fn what_one_node_has_leased_another_has_not_and_each_hears_when_there_is_more() {
    let server = Server::start();
    let (one, other) = (Node::ready(&server, LIFETIMES).await, Node::ready(&server, LIFETIMES).await);
    let acme = tenant("acme");
    let began = Instant::now();
    assert_eq!(one.store.lease(&acme, RATE, 12).await, Ok(Leased::Given(12)));
    let mut given = 12;
    let wait = loop {
        match other.store.lease(&acme, RATE, 5).await.unwrap() {
            Leased::Given(messages) => given += messages,
            Leased::After(wait) => break wait,
        }
        assert!(began.elapsed() < SOON, "it never ends");
    };
    // At the most those that came with time.
    let more = began.elapsed().as_secs() / 6 + 1;
    assert!((20..=20 + more).contains(&given), "{given} of 20");
    assert!(!wait.is_zero() && wait <= Duration::from_secs(6), "{wait:?}");
    assert_eq!(one.store.lease(&tenant("globex"), RATE, 1).await, Ok(Leased::Given(1)), "another tenant");
    // What no node wrote takes no more than a burst from the tenant, and gives it none.
    for forged in ["x", "99999999999999999999", "-1", "1e300", "nan"] {
        server.tell(&format!("SET agentbus:{{acme}}:rate {forged}"));
        match one.store.lease(&acme, RATE, 1_000).await.unwrap() {
            Leased::Given(messages) => assert!(messages <= RATE.burst.into(), "{forged}: {messages}"),
            Leased::After(wait) => assert!(wait <= Duration::from_secs(6), "{forged}: {wait:?}"),
        }
    }
    assert!(one.stop().await && other.stop().await, "tasks outlive the store");
}

const HOUR: u64 = 3_600_000_000_000;

#[tokio::test]
async fn a_rule_of_the_policy_has_one_account_for_each_sender_whatever_numbers_it_names_and_outlives_no_window()
 {
    let mut server = Server::start();
    let (one, other) = (Node::ready(&server, LIFETIMES).await, Node::ready(&server, LIFETIMES).await);
    let (acme, planner, worker) = (tenant("acme"), agent("planner"), agent("worker"));
    let of = |sender, rule, hours: u32| RuleAccount {
        tenant: &acme,
        sender,
        rule,
        window: Duration::from_secs(86_400),
        each: Duration::from_secs(3_600) * hours,
    };
    // Twenty-four messages a day, then six: both take of one account, each its part.
    assert_eq!(one.store.lease_of_rule(of(&planner, "own", 1), HOUR).await, Ok(Leased::Given(HOUR)));
    assert_eq!(
        other.store.lease_of_rule(of(&planner, "own", 1), 17 * HOUR).await,
        Ok(Leased::Given(17 * HOUR))
    );
    assert_eq!(
        other.store.lease_of_rule(of(&planner, "own", 4), 4 * HOUR).await,
        Ok(Leased::Given(4 * HOUR))
    );
    let Leased::After(wait) = one.store.lease_of_rule(of(&planner, "own", 4), 4 * HOUR).await.unwrap() else {
        panic!("two hours are left, and four were needed");
    };
    assert!(wait <= Duration::from_secs(7_200) && wait > Duration::from_secs(7_000), "{wait:?}");
    // What is enough for one message is given, even if it is less than was wanted.
    let Leased::Given(rest) = one.store.lease_of_rule(of(&planner, "own", 1), 5 * HOUR).await.unwrap() else {
        panic!("two hours are left");
    };
    assert!((2 * HOUR..2 * HOUR + HOUR / 10).contains(&rest), "{rest}");
    for of in [of(&planner, "other", 1), of(&worker, "own", 1)] {
        assert_eq!(one.store.lease_of_rule(of, HOUR).await, Ok(Leased::Given(HOUR)), "{of:?} has its own");
    }
    let expires = server.tell("PTTL agentbus:{acme}:rule:planner:own");
    let expires: u64 = expires.trim().trim_start_matches(':').parse().unwrap();
    assert!((86_000_000..=86_400_100).contains(&expires), "{expires} ms");

    // What no node wrote gives nothing for ever, and nothing beyond a window.
    for forged in ["x", "99999999999999999999", "-1", "1e300", "nan"] {
        server.tell(&format!("SET agentbus:{{acme}}:rule:planner:own {forged}"));
        match one.store.lease_of_rule(of(&planner, "own", 1), 1_000 * HOUR).await.unwrap() {
            Leased::Given(given) => assert!(given <= 24 * HOUR, "{forged}: {given}"),
            Leased::After(wait) => assert!(wait <= Duration::from_secs(3_600), "{forged}: {wait:?}"),
        }
    }

    server.kill();
    assert!(
        one.store.lease_of_rule(of(&planner, "own", 1), HOUR).await.is_err(),
        "nobody knows what is left"
    );
    server.start_again();
    eventually(async || {
        one.store.lease_of_rule(of(&planner, "own", 1), HOUR).await == Ok(Leased::Given(HOUR))
    })
    .await;
    assert!(one.stop().await && other.stop().await, "tasks outlive the store");
}
