//! Do OPA servers answer as the node itself does, and who answers while they are away?

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    breakers::Breakers,
    cpu::{Cpu, CpuSettings},
    domain::{Reason, Value},
    policy::{
        Decision, Event as SeenEvent, Gate, Mode, Moded, Modes, OffRuntime, OpaServers, OpaSettings,
        PolicyEngine as _, PolicyError, PolicySources,
        opa::{Event, Meter},
    },
};
use futures_util::future::join_all;
use rand::{SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::{
    Seen, library, load,
    parity::decide,
    question::{Owned, random},
    rollout::question,
    with_modules,
};
use crate::support::opa::{self, Opa};

/// Far more than any answer takes, on a busy machine too.
pub(super) const PATIENT: Duration = Duration::from_secs(20);

/// What a node asks by, and whether it asks.
pub(super) struct Asking {
    pub(super) engine: Moded,
    pub(super) servers: Arc<OpaServers>,
    pub(super) seen: Seen,
    requests: Requests,
    running: JoinHandle<()>,
}

/// How requests have ended.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<Vec<&'static str>>>);

impl Meter for Requests {
    fn see(&self, event: Event<'_>) {
        let Event::Request { outcome, .. } = event;
        self.0.lock().unwrap().push(outcome);
    }
}

impl Asking {
    pub(super) fn new(policy: &PolicySources, urls: &[String], mode: Mode, within: Duration) -> Self {
        let requests = Requests::default();
        let breakers = Breakers::default();
        let urls = urls.iter().map(String::as_str).collect();
        let settings = OpaSettings { servers: urls, token: None, within, breakers: &breakers };
        let meter: Arc<dyn Meter> = Arc::new(requests.clone());
        let servers = Arc::new(OpaServers::open(&settings, &meter).unwrap());
        let running = tokio::spawn({
            let servers = Arc::clone(&servers);
            async move { servers.run().await }
        });
        let cpu = Cpu::start(CpuSettings { threads: 2, queue: 512 }, Arc::new(())).unwrap();
        let rego = Arc::new(OffRuntime::new(load(policy), Arc::new(cpu)));
        let seen = Seen::default();
        // One tenant of all is asked about in process.
        let tenants = BTreeMap::from([("home".parse().unwrap(), Mode::Rego)]);
        let modes = Modes::new(mode, tenants, Some(Arc::clone(&servers)), Arc::new(seen.clone()));
        Self { engine: Moded::new(rego, Arc::new(modes)), servers, seen, requests, running }
    }

    pub(super) async fn ask(&self, asked: &Owned) -> Result<Decision, PolicyError> {
        self.engine.evaluate(&asked.ask()).await
    }

    /// Waits until a server is asked, or is not.
    async fn until_asked(&self, server: usize, asked: bool) {
        while self.servers.standing(self.engine.revision())[server].problem.is_none() != asked {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it is told why a server is not asked.
    async fn until_problem(&self, server: usize, why: &str) {
        let problem = || self.servers.standing(self.engine.revision())[server].problem.clone();
        while !problem().is_some_and(|problem| problem.contains(why)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn requests(&self, outcome: &str) -> usize {
        self.requests.0.lock().unwrap().iter().filter(|seen| **seen == outcome).count()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn of_tenant(tenant: &str, asked: &Owned) -> Owned {
    let mut asked = asked.clone();
    asked.tenant.id = tenant.parse().unwrap();
    asked
}

fn with_content(name: &str, value: Value) -> Owned {
    let mut asked = question();
    Arc::make_mut(&mut asked.message).content.insert(name.to_owned(), value);
    asked
}

/// A policy whose answers depend on a number, and show it.
const COUNTS: &str = "package agentbus.modules.own

default allow := false

allow if not has_number

allow if input.message.content.n < 1000

has_number if is_number(input.message.content.n)

reasons contains sprintf(\"%v is too much\", [input.message.content.n]) if input.message.content.n >= 1000

obligations := {\"redact\": [\"n\"], \"min_approvals\": 2, \"score\": true} if input.message.content.n == 7
";

/// Also numbers at the ends of what a message may hold.
#[tokio::test]
async fn two_servers_decide_together_as_the_node_does_and_what_waits_together_goes_together() {
    let Some(program) = opa::program() else { return };
    let mut policy = library::whole();
    policy.modules.extend(with_modules(&[("counts.rego", COUNTS)]).modules);
    let servers = [Opa::with_policy(&program, &policy).await, Opa::with_policy(&program, &policy).await];
    let asking = Asking::new(&policy, &servers.each_ref().map(Opa::url), Mode::Opa, PATIENT);
    let engine = load(&policy);
    let mut rng = StdRng::seed_from_u64(4);
    let mut questions: Vec<Owned> = (0..200).map(|_| Owned::from_input(&library::odd(&mut rng))).collect();
    questions.extend((0..100).map(|_| Owned::from_input(&random(&mut rng))));
    questions.extend([7.0, 0.1, -0.0, 999.5, 5e-324].map(|n| with_content("n", Value::Float(n))));
    questions.extend(
        [7, 1000, i128::from(i64::MIN), i128::from(u64::MAX)].map(|n| with_content("n", Value::Int(n))),
    );
    let answers = join_all(questions.iter().map(|asked| asking.ask(asked))).await;
    for (asked, answer) in questions.iter().zip(answers) {
        let expected = decide(&engine, asked);
        // Of more reasons than are kept, each keeps others.
        if !matches!(&expected, Decision::Denied { reasons } if reasons.len() == 16) {
            assert_eq!(answer.unwrap(), expected, "{asked:?}");
        }
    }
    let requests = asking.requests("answered");
    assert!(requests < questions.len() / 2, "{requests} requests for {} questions", questions.len());
}

/// Of two servers one is killed, started again, stalled and let go on; then both are away, and both have another policy.
#[tokio::test]
async fn while_servers_die_stall_and_come_back_others_answer_and_then_rego_of_the_same_revision() {
    let Some(program) = opa::program() else { return };
    let policy = with_modules(&[("counts.rego", COUNTS)]);
    let mut servers = [Opa::with_policy(&program, &policy).await, Opa::with_policy(&program, &policy).await];
    let urls = servers.each_ref().map(Opa::url);
    let within = Duration::from_secs(2);
    let [only, either] = [Mode::Opa, Mode::OpaOrRego].map(|mode| Asking::new(&policy, &urls, mode, within));
    let (allowed, denied) = (with_content("n", Value::Int(1)), with_content("n", Value::Int(5000)));
    let decided = async |asking: &Asking| {
        let answers = join_all([&allowed, &denied].map(|asked| asking.ask(asked))).await;
        let [Ok(Decision::Allowed(_)), Ok(Decision::Denied { .. })] = &answers[..] else {
            panic!("{answers:?}")
        };
    };
    let both = [&only, &either];
    let until = async |server: usize, asked: bool| {
        for asking in both {
            decided(asking).await;
            asking.until_asked(server, asked).await;
            decided(asking).await;
        }
    };
    servers[0].kill();
    until(0, false).await;
    servers[0].restart(&policy).await;
    until(0, true).await;
    servers[1].signal(Signal::STOP);
    until(1, false).await;
    servers[1].signal(Signal::CONT);
    until(1, true).await;
    assert_eq!(either.seen.count(SeenEvent::InsteadOfOpa), 0);

    let other = with_modules(&[("counts.rego", &COUNTS.replace("1000", "6000"))]);
    for server in &mut servers {
        server.restart(&other).await;
    }
    for asking in both {
        for server in 0..2 {
            asking.until_problem(server, &other.revision()).await;
        }
    }
    // Whom another policy would allow, too.
    for _ in 0..2 {
        let refused = only.ask(&denied).await.unwrap_err();
        assert!(matches!(refused, PolicyError::Unanswered { .. }), "{refused:?}");
        decided(&either).await;
        servers.iter_mut().for_each(Opa::kill);
    }
    assert_eq!(either.seen.count(SeenEvent::InsteadOfOpa), 4);
    servers[1].restart(&policy).await;
    only.until_asked(1, true).await;
    decided(&only).await;
}

/// One of many fails by its content, and one takes for ever: neither is why another has no answer, nor why a server is
/// left alone.
#[tokio::test]
async fn a_question_that_fails_or_runs_away_harms_none_beside_it_and_no_server() {
    const HARMED: &str = "package agentbus.modules.own

default allow := false

allow if not input.message.content.n

allow if 1 / input.message.content.n > 0

allow if {
	input.message.content.n < 0
	count([1 | some a in ns; some b in ns; some c in ns; some d in ns; a + b + c + d > 0]) < 0
}

ns := numbers.range(1, 1000)

# Nothing asks for it, here or there.
unheeded := 1 / input.message.content.zero
";
    let Some(program) = opa::program() else { return };
    let policy = with_modules(&[("own.rego", HARMED)]);
    let server = Opa::with_policy(&program, &policy).await;
    let asking = Asking::new(&policy, &[server.url()], Mode::Opa, Duration::from_secs(4));
    let mut questions: Vec<Owned> =
        (1..40).map(|n| of_tenant("hostile", &with_content("n", Value::Int(n)))).collect();
    questions.insert(20, of_tenant("hostile", &with_content("n", Value::Int(0))));
    let answers = join_all(questions.iter().map(|asked| asking.ask(asked))).await;
    for (at, answer) in answers.into_iter().enumerate() {
        match (at, answer) {
            (20, Err(PolicyError::Failed { cause, .. })) => {
                assert!(cause.contains("divide by zero"), "{cause}")
            }
            (20, other) => panic!("{other:?}"),
            (_, answer) => drop(answer.unwrap()),
        }
    }
    let runaway = of_tenant("hostile", &with_content("n", Value::Int(-1)));
    let fine = of_tenant("innocent", &with_content("n", Value::Int(1)));
    let (ran, others) = tokio::join!(asking.ask(&runaway), async {
        for _ in 0..20 {
            asking.ask(&fine).await.unwrap();
        }
        asking.servers.standing(asking.engine.revision())
    });
    let Err(PolicyError::Failed { cause, .. }) = &ran else { panic!("{ran:?}") };
    assert!(cause.contains("no decision within"), "{cause}");
    assert!(others.iter().all(|server| server.problem.is_none()), "{others:?}");
    asking.ask(&fine).await.unwrap();
}

#[tokio::test]
async fn the_mode_is_the_tenants_own_and_without_a_server_the_sender_hears_when_to_ask_again() {
    let policy = PolicySources::shipped();
    let asking = Asking::new(&policy, &["http://127.0.0.1:9".to_owned()], Mode::Opa, PATIENT);
    asking.until_asked(0, false).await;
    let asked = question();
    asking.ask(&of_tenant("home", &asked)).await.unwrap();
    assert_eq!(asking.seen.count(SeenEvent::AskedRego), 1);
    let problem = asking.servers.standing("")[0].problem.clone().unwrap();
    assert!(problem.contains("not reachable"), "{problem}");
    let Asking { engine, .. } = &asking;
    let gate = Gate::new(Arc::new(Moded::clone(engine)));
    let refused = gate.decide(&asked.ask()).await.unwrap_err();
    assert_eq!((refused.reason, refused.reason.retryable()), (Reason::BreakerOpen, true));
    let retry_after = refused.retry_after.unwrap();
    assert!((1..=15_000).contains(&retry_after.as_millis()), "{retry_after:?}");
    assert!(!refused.detail.contains("127.0.0.1"), "{}", refused.detail);
}
