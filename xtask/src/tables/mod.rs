//! `cargo xtask table1|table2|figure2|tables`: the paper's tables and ours, by running the binary and reading its
//! records.

mod benchmarks;
mod domain;
mod figure2;
mod figure3;
mod pages;
mod paper;
mod scale;
mod shifts;
mod stops;
mod table1;
mod table2;

use std::path::PathBuf;

use crate::experiment::folders;
use crate::experiment::job::run_all;
use crate::experiment::program::{Program, Which};
use crate::steps::Outcome;
pub use domain::Part;
use domain::{Domain, Plan};
use pages::Pages;
use paper::Paper;
use scale::Scale;

/// What the pages are, above their tables.
const TABLE1: &str = include_str!("pages/table1.md");
const TABLE2: &str = include_str!("pages/table2.md");
const FIGURE2: &str = include_str!("pages/figure2.md");
const SHIFTS: &str = include_str!("pages/shifts.md");
const ABLATIONS: &str = include_str!("pages/ablations.md");
const CRITERIA: &str = include_str!("pages/criteria.md");

/// What all of these tasks take.
#[derive(Debug, clap::Args)]
struct Common {
    /// Seeds 0, 1, ... of every run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Where sets, runs and results go; runs that are there already are not run again
    #[arg(long, value_name = "DIR", default_value = "target/tables")]
    out: PathBuf,
    /// Run nothing: tables of the seeds whose runs are all there
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    wish: scale::Wish,
    #[command(flatten)]
    which: Which,
}

/// A table or figure of the paper, on the data sets of the paper
#[derive(Debug, clap::Args)]
pub struct PaperArgs {
    /// Folder of the data sets: livecell/ and tissuenet/, as published (docs/reproducing.md)
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder of Cellpose's models cyto2, nuclei, livecell and tissuenet
    #[arg(long, value_name = "DIR")]
    weights: PathBuf,
    /// Only these benchmarks: livecell, tissuenet-cyto, tissuenet-nuclei
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    common: Common,
}

/// Our tables: three real shifts, and the ablations on one of them
#[derive(Debug, clap::Args)]
pub struct OursArgs {
    /// Folder of reference data
    #[arg(long, value_name = "DIR", default_value = "../shared/assets")]
    data: PathBuf,
    /// Also write the pages to this folder: docs/results
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Common {
    fn prepare(&self) -> Outcome<(Program, Scale)> {
        folders::make(&self.out)?;
        Ok((self.which.program()?, self.wish.scale()?))
    }

    /// Does the runs of a plan, unless only what is there was asked for.
    fn complete(&self, program: &Program, plan: &Plan, parts: &[(Part, &[Domain])]) -> Outcome {
        if self.ready {
            return Ok(());
        }
        run_all(program, &plan.jobs(parts))
    }

    /// The plan of those seeds whose runs for a part are all there.
    fn there<'a>(&self, plan: Plan<'a>, part: Part, domains: &[Domain]) -> Outcome<Plan<'a>> {
        let whole = |seeds: &u64| {
            let plan = Plan {
                seeds: *seeds,
                ..plan
            };
            let jobs = plan.jobs(&[(part, domains)]);
            jobs.iter().all(|job| job.is_finished())
        };
        let seeds = (1..=self.seeds).take_while(whole).last();
        let seeds = seeds.ok_or_else(|| {
            format!(
                "{part:?}: the runs of seed 0 are not all there yet in {}; leave out --ready to do them",
                self.out.display()
            )
        })?;
        Ok(Plan { seeds, ..plan })
    }
}

/// Makes one of the paper's tables or figures.
///
/// # Errors
/// If data or models are missing, or a run fails.
pub fn run_paper(part: Part, args: &PaperArgs) -> Outcome {
    let common = &args.common;
    let (program, scale) = common.prepare()?;
    let sets = common.out.join("sets");
    let only = args.only.as_slice();
    let all = benchmarks::domains(&program, &args.data, &args.weights, &sets, &scale, only)?;
    let runs = common.out.join("runs");
    let plan = Plan {
        runs: &runs,
        scale: &scale,
        seeds: common.seeds,
    };
    common.complete(&program, &plan, &[(part, &all)])?;
    let plan = common.there(plan, part, &all)?;
    let pages = Pages {
        plan: &plan,
        to: &common.out.join("results"),
    };
    match part {
        Part::Table1 => pages.table1("table1", TABLE1, &all, Some(&Paper::table1()?)),
        Part::Table2 => pages.table2("table2", TABLE2, &all, Some(&Paper::table2()?)),
        Part::Figure2 => pages.figure2("figure2", FIGURE2, &all),
        Part::Figure3 => {
            let work = common.out.join("figure3");
            pages.figure3("figure3", &program, &all, &work)
        }
    }
}

/// Makes our tables.
///
/// # Errors
/// If the reference data are missing, or a run fails.
pub fn run_ours(args: &OursArgs) -> Outcome {
    let common = &args.common;
    let (program, scale) = common.prepare()?;
    let all = shifts::domains(&program, &args.data, &common.out.join("sets"), &scale)?;
    let runs = common.out.join("runs");
    let plan = Plan {
        runs: &runs,
        scale: &scale,
        seeds: common.seeds,
    };
    let ablated: &[Domain] = all.get(..1).unwrap_or_default();
    let parts = [(Part::Table1, all.as_slice()), (Part::Table2, ablated)];
    common.complete(&program, &plan, &parts)?;
    let results = common.out.join("results");
    let (mut written, mut missing) = (0, Vec::new());
    for part in [Part::Table1, Part::Table2, Part::Figure2, Part::Figure3] {
        let domains = if part == Part::Table2 { ablated } else { &all };
        let plan = match common.there(plan, part, domains) {
            Ok(plan) => plan,
            Err(reason) => {
                missing.push(reason);
                continue;
            }
        };
        // Figure 3 holds images that are not ours to pass on: it never goes with the pages.
        let docs = args.docs.as_ref().filter(|_| part != Part::Figure3);
        for to in [Some(&results), docs].into_iter().flatten() {
            let pages = Pages { plan: &plan, to };
            match part {
                Part::Table1 => pages.table1("shifts", SHIFTS, domains, None)?,
                Part::Table2 => pages.table2("ablations", ABLATIONS, domains, None)?,
                Part::Figure2 => pages.figure2("criteria", CRITERIA, domains)?,
                Part::Figure3 => {
                    let work = common.out.join("figure3");
                    pages.figure3("figure3", &program, domains, &work)?;
                }
            }
            written += 1;
        }
    }
    // With --ready a part of them is better than none.
    missing
        .iter()
        .for_each(|reason| println!("left out: {reason}"));
    if written == 0 {
        return Err(missing.join("; "));
    }
    Ok(())
}
