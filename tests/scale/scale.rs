//! `make scale`: what the operator costs with ten thousand mailboxes in one cluster. It runs as a process of this machine
//! against a real API server, so that its memory and its time can be read from `/proc`, and watches one namespace alone.
//!
//! Two shapes: one migration of all mailboxes, and 25 of 400. The objects are those that an operator and its workers leave
//! behind: see `world`. With the second shape fifty real `mailferry sync` processes then carry mail and report it: see
//! `workers`. Figures are printed as a table; a goal that is missed makes the exit code 1.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::large_futures,
    reason = "a measurement speaks to whoever runs it, and stops at the first surprise"
)]

mod operator;
#[path = "../support/mod.rs"]
mod support;
mod workers;
mod world;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use operator::Operator;
use support::cluster::Cluster;
use workers::Workers;
use world::{Shape, World, count_writes};

/// How long the operator is looked at while nothing happens, and while workers report.
const LOOK: Duration = Duration::from_mins(1);
/// How long workers have to come to their mail.
const SETTLE: Duration = Duration::from_secs(30);
/// Turns whose cost is averaged.
const TURNS: u32 = 10;

/// The measurement of one thing.
struct Row {
    what: &'static str,
    goal: Option<f64>,
    figure: f64,
    unit: &'static str,
}

/// The measurements of one shape.
#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn goal(&mut self, what: &'static str, goal: f64, figure: f64, unit: &'static str) {
        self.0.push(Row { what, goal: Some(goal), figure, unit });
    }

    fn note(&mut self, what: &'static str, figure: f64, unit: &'static str) {
        self.0.push(Row { what, goal: None, figure, unit });
    }

    /// Prints it; whether every goal is met.
    fn print(&self, title: &str) -> bool {
        println!("\n{title}\n\n| Measured | Goal | Figure |\n| --- | --- | --- |");
        for Row { what, goal, figure, unit } in &self.0 {
            let goal = goal.map_or_else(String::new, |goal| format!("≤ {goal} {unit}"));
            println!("| {what} | {goal} | {figure:.1} {unit} |");
        }
        self.0.iter().all(|row| row.goal.is_none_or(|goal| row.figure <= goal))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(program) = program().filter(|program| program.exists()) else {
        println!("mailferry is not built yet: cargo build --release --bin mailferry");
        return ExitCode::FAILURE;
    };
    println!("measuring {}", program.display());
    Cluster::get().apply_crds();
    let named = env::args().nth(2).map(|text| vec![Shape::read(&text)]);
    let shapes = named.unwrap_or_else(|| vec![Shape::read("25x400"), Shape::read("1x10000")]);
    let mut met = true;
    for shape in shapes {
        let table = measure(&program, shape).await;
        met &= table.print(&format!("{} × {} mailboxes", shape.migrations, shape.mailboxes));
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The program to measure: the one that is named, or the release build beside this one.
fn program() -> Option<PathBuf> {
    if let Some(named) = env::args().nth(1) {
        return Some(named.into());
    }
    // target/debug/examples/scale
    Some(env::current_exe().ok()?.ancestors().nth(3)?.join("release/mailferry"))
}

async fn measure(program: &Path, shape: Shape) -> Table {
    let mut table = Table::default();
    let all = f64::from(shape.migrations * shape.mailboxes);
    let mut world = World::seed(shape).await;

    let begun = Instant::now();
    let operator = Operator::start(program, &world).await;
    operator.wait_until("all mailboxes have an object", |f| f.mailboxes() >= all).await;
    let figures = operator.figures().await;
    table.note("first observation: objects and statuses written", begun.elapsed().as_secs_f64(), "s");
    table.note("CPU time for that", figures.cpu.as_secs_f64(), "s");

    let begun = Instant::now();
    world.tell_as_workers().await;
    let told = begun.elapsed().as_secs_f64();
    operator.wait_until("all mailboxes are verified", |f| f.phase("mailboxes", "Verified") >= all).await;
    let after = operator.figures().await;
    table.note("10,000 mailboxes come to their end: the workers' words", told, "s");
    table.note("until the operator has written all phases", begun.elapsed().as_secs_f64(), "s");
    table.note("CPU time of the operator for that", after.cpu.saturating_sub(figures.cpu).as_secs_f64(), "s");
    table.note("peak memory of the operator until here", after.peak, "MiB");
    world.leave_first_pass().await;
    world.set_stage("Sync").await;
    let migrations = f64::from(shape.migrations);
    operator
        .wait_until("all are synced", |f| {
            f.phase("migrations", "Synced") + f.phase("migrations", "Verified") >= migrations
        })
        .await;
    operator.stop().await;

    let begun = Instant::now();
    let operator = Operator::start(program, &world).await;
    operator.wait_until("every migration had a turn", |f| f.turns() >= migrations).await;
    let cold = begun.elapsed();
    let figures = operator.figures().await;
    table.goal("cold start: everything read, every migration had a turn", 60.0, cold.as_secs_f64(), "s");
    table.note("CPU time of a cold start", figures.cpu.as_secs_f64(), "s");
    operator.wait_until("mailboxes are counted", |f| f.mailboxes() >= all).await;
    tokio::time::sleep(Duration::from_secs(10)).await;

    let before = operator.figures().await;
    assert!(before.total("jobs_created_total") < 0.5, "a restart begins nothing");
    tokio::time::sleep(LOOK).await;
    let after = operator.figures().await;
    let rate = |calls: f64| calls / LOOK.as_secs_f64();
    table.goal(
        "API calls while nothing happens",
        1.0,
        rate(after.total("api_requests_total") - before.total("api_requests_total")),
        "/s",
    );
    table.note(
        "CPU time while nothing happens",
        after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0 / LOOK.as_secs_f64(),
        "ms/s",
    );
    table.goal("memory (RSS) while nothing happens", 128.0, after.rss, "MiB");
    table.note("peak memory (RSS)", after.peak, "MiB");

    let before = operator.figures().await;
    for turn in 1..=TURNS {
        world.touch(turn).await;
        operator.wait_until("a turn", |f| f.turns() >= before.turns() + f64::from(turn)).await;
    }
    let after = operator.figures().await;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1000.0 / (after.turns() - before.turns());
    table.note("CPU time of a turn of one migration", each(after.cpu.saturating_sub(before.cpu)), "ms");
    operator.stop().await;

    if shape.migrations > 1 {
        report(program, &mut world, &mut table).await;
    }
    table
}

/// Fifty workers carry mail and report it.
async fn report(program: &Path, world: &mut World, table: &mut Table) {
    let slices = world.begin_second_pass().await;
    let operator = Operator::start(program, world).await;
    let all = f64::from(world.shape.migrations * world.shape.mailboxes);
    operator.wait_until("all mailboxes are syncing", |f| f.phase("mailboxes", "Syncing") >= all).await;
    let workers = Workers::start(program, world, &slices);
    workers.wait_until_at_work().await;
    tokio::time::sleep(SETTLE).await;
    let (before, written) = (operator.figures().await, count_writes());
    let begun = Instant::now();
    tokio::time::sleep(LOOK).await;
    let (after, written) = (operator.figures().await, count_writes() - written);
    let seconds = begun.elapsed().as_secs_f64();
    let written = written / seconds;
    let ours = (after.writes() - before.writes()) / seconds;
    assert!(
        workers.at_work() == slices.len(),
        "{} of {} workers are at work",
        workers.at_work(),
        slices.len()
    );
    table.note("workers at work", f64::from(u32::try_from(slices.len()).unwrap()), "");
    table.note("writes of the operator, its lease among them", ours, "/s");
    table.goal("writes with fifty workers reporting, as the API server counts them", 10.0, written, "/s");
    table.note(
        "CPU time of the operator meanwhile",
        after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0 / seconds,
        "ms/s",
    );
    table.goal("memory (RSS) of the operator meanwhile", 128.0, after.rss, "MiB");
    table.note("turns meanwhile", (after.turns() - before.turns()) / seconds, "/s");
    drop(workers);
    operator.stop().await;
}
