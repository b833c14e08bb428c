//! What becomes of messages whose node is killed or stalls between two steps of one of them? Each has one outcome, and
//! goes into its recipient's inbox once. Several are on their way at once, so that their records are one message.

use std::{path::Path, time::Instant};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Reason, Verdict},
    fault_points::Step,
};
use agentbus_testkit::{
    checker::What,
    traffic::{Heard, PERSISTENT, Receipts, persist},
};
use futures_util::future::join_all;

use super::{
    SOON,
    cluster::{Cluster, plan},
    pair,
};
use crate::support::{bus::Bus, fault_points::FaultPoints};

/// Messages that are sent together.
const AT_ONCE: usize = 6;
/// So many that some of them leave a node in one write.
const MANY: usize = 48;
/// Messages whose records stand ahead of their deliveries together.
const PART_MAX: usize = 4;

/// Two nodes that can be armed, an agent that sends and one that keeps its receipts.
struct Scene {
    cluster: Cluster,
    points: FaultPoints,
    planner: AgentClient,
    _worker: AgentClient,
    receipts: Receipts,
    heard: Heard,
}

impl Scene {
    async fn begin(settings: &str) -> Self {
        let mut points = FaultPoints::default();
        let bus = Bus::with(2, |options| {
            options.plan = plan();
            options.node_overrides.extend(settings.parse::<toml::Table>().unwrap());
            points = FaultPoints::of(options);
        })
        .await;
        let cluster = Cluster::of(bus);
        let (planner, worker, receipts) = pair(&cluster).await;
        let heard = Heard { sender: planner.id().to_string(), ..Heard::default() };
        Self { cluster, points, planner, _worker: worker, receipts, heard }
    }

    /// Sends messages of which one's first node meets its fate at this step, and hears what came of all; a repeat hears the
    /// same. Which node it was.
    async fn send_past(&mut self, step: Step, fate: &str, is_met: fn(&mut Cluster, usize) -> bool) -> usize {
        let armed = self.points.arm(step, fate);
        let drafts = [(); AT_ONCE].map(|()| Draft::to_agent("worker", "the weekly summary is ready"));
        let told = join_all(drafts.iter().map(|draft| persist(&self.planner, draft, PERSISTENT))).await;
        for (draft, verdict) in drafts.into_iter().zip(told) {
            let verdict = verdict.unwrap_or_else(|| panic!("no outcome of a message {fate}ed at {step:?}"));
            assert_eq!(verdict.reason, Reason::Delivered, "{step:?}: {verdict:?}");
            let again = persist(&self.planner, &draft, PERSISTENT).await;
            assert_eq!(again.as_ref(), Some(&verdict), "{step:?}");
            self.hears(draft, verdict);
        }
        self.met(step, &armed, is_met).await
    }

    /// Sends many messages at a time, until half of a write with several of them was a node's last. Which one it was.
    async fn cut_in_two(&mut self, fate: &str, is_met: fn(&mut Cluster, usize) -> bool) -> usize {
        let armed = self.points.arm(Step::InTwo, fate);
        let started = Instant::now();
        while armed.exists() {
            assert!(started.elapsed() < SOON, "no node has written several messages at a time");
            let drafts = [(); MANY].map(|()| Draft::to_agent("worker", "the weekly summary is ready"));
            let told = join_all(drafts.iter().map(|draft| persist(&self.planner, draft, PERSISTENT))).await;
            for (draft, verdict) in drafts.into_iter().zip(told) {
                let verdict =
                    verdict.unwrap_or_else(|| panic!("no outcome of a message {fate}ed in its write"));
                self.hears(draft, verdict);
            }
        }
        self.met(Step::InTwo, &armed, is_met).await
    }

    async fn met(&mut self, step: Step, armed: &Path, is_met: fn(&mut Cluster, usize) -> bool) -> usize {
        let started = Instant::now();
        loop {
            if let Some(node) = (0..2).find(|&node| !armed.exists() && is_met(&mut self.cluster, node)) {
                return node;
            }
            assert!(started.elapsed() < SOON, "no node came to {step:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    fn hears(&mut self, draft: Draft, verdict: Verdict) {
        self.heard.sent.push(draft.message_id.clone());
        self.heard.verdicts.insert(draft.message_id, verdict);
    }

    /// How many messages are said to be delivered and are not, at most this many. What has left before another message
    /// that came since has come.
    async fn undelivered(&mut self, most: usize) -> usize {
        let more = self.receipts.more(1, SOON);
        let draft = Draft::to_agent("worker", "the last one");
        let (verdict, came) = tokio::join!(persist(&self.planner, &draft, PERSISTENT), more);
        came.unwrap();
        self.hears(draft, verdict.expect("no outcome with a node that is well"));
        let faults = self.heard.faults_so_far(&self.receipts);
        assert!(faults.iter().all(|fault| matches!(fault.what, What::NotDelivered { .. })), "{faults:?}");
        assert!(faults.len() <= most, "{} of at most {most}: {faults:?}", faults.len());
        faults.len()
    }

    async fn end(self) {
        assert_eq!(self.heard.faults(&self.receipts).await, []);
        assert_eq!(self.receipts.count(), AT_ONCE * Step::BETWEEN.len());
        self.cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_between_two_steps_of_a_message_costs_it_neither_its_outcome_nor_doubles_it() {
    let mut scene = Scene::begin("").await;
    for step in Step::BETWEEN {
        let is_dead = |cluster: &mut Cluster, node| cluster.node(node).child_mut().try_exited().is_some();
        let node = scene.send_past(step, "kill", is_dead).await;
        scene.cluster.node(node).restart().await.unwrap();
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stalled_between_two_steps_of_a_message_does_not_double_it_when_it_goes_on() {
    // The message is taken over, and the node goes on, before other nodes notice and end its connections.
    let settings = "limits.deadline = \"200ms\"\nidempotency.lease = \"300ms\"";
    let mut scene = Scene::begin(settings).await;
    for step in Step::BETWEEN {
        let node = scene.send_past(step, "stop", is_stopped).await;
        scene.cluster.node(node).child_mut().resume();
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_cut_in_two_costs_the_messages_of_one_part_their_delivery_and_no_other() {
    let mut scene = Scene::begin("limits.deadline = \"600ms\"\nidempotency.lease = \"900ms\"").await;
    let is_dead = |cluster: &mut Cluster, node| cluster.node(node).child_mut().try_exited().is_some();
    let node = scene.cut_in_two("kill", is_dead).await;
    let undelivered = scene.undelivered(PART_MAX).await;
    scene.cluster.node(node).restart().await.unwrap();
    let node = scene.cut_in_two("stop", is_stopped).await;
    scene.cluster.node(node).child_mut().resume();
    scene.undelivered(undelivered + PART_MAX).await;
    scene.cluster.stop().await;
}

/// By its state, behind the name in parentheses.
fn is_stopped(cluster: &mut Cluster, node: usize) -> bool {
    let pid = cluster.node(node).child().pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
}
