//! The pages that tables and figures stand on: Markdown, with the numbers as CSV and the charts as SVG beside it.

use std::fmt::Write;
use std::path::Path;

use super::domain::{Domain, Plan, Start};
use super::paper::Paper;
use super::{figure2, figure3, table1, table2};
use crate::experiment::folders;
use crate::experiment::program::Program;
use crate::steps::Outcome;

/// Where pages go, and the runs that they tell of.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// The runs.
    pub plan: &'a Plan<'a>,
    /// The folder.
    pub to: &'a Path,
}

impl Pages<'_> {
    /// Writes Table 1 of some domains as `name`.md and `name`.csv; `words` come first.
    ///
    /// # Errors
    /// If a run is not finished, or a file cannot be written.
    pub fn table1(
        &self,
        name: &str,
        words: &str,
        domains: &[Domain],
        paper: Option<&Paper>,
    ) -> Outcome {
        let all = domains
            .iter()
            .map(|domain| Ok((domain, domain.results(self.plan)?)))
            .collect::<Outcome<Vec<_>>>()?;
        self.text(&format!("{name}.csv"), &table1::csv(&all)?)?;
        self.page(name, words, &table1::page(&all, paper)?)
    }

    /// Writes Table 2 likewise.
    ///
    /// # Errors
    /// As [`Pages::table1`].
    pub fn table2(
        &self,
        name: &str,
        words: &str,
        domains: &[Domain],
        paper: Option<&Paper>,
    ) -> Outcome {
        let all = domains
            .iter()
            .map(|domain| Ok((domain, table2::read(domain, self.plan)?)))
            .collect::<Outcome<Vec<_>>>()?;
        self.text(&format!("{name}.csv"), &table2::csv(&all)?)?;
        self.page(name, words, &table2::page(&all, paper)?)
    }

    /// Writes Figure 2 of some domains as `name`.md and a `name`-DOMAIN.svg each.
    ///
    /// # Errors
    /// As [`Pages::table1`].
    pub fn figure2(&self, name: &str, words: &str, domains: &[Domain]) -> Outcome {
        let mut text = String::new();
        for domain in domains {
            let records = domain.records(self.plan, Start::Base, None)?;
            let file = format!("{name}-{}.svg", domain.name);
            self.text(&file, &figure2::draw(domain, &records))?;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "## {}\n\n![Criteria and score along the run: {0}]({file})\n\n{}",
                domain.title,
                figure2::table(&records)
            );
        }
        self.page(name, words, &text)
    }

    /// Writes Figure 3 of some domains as a `name`-DOMAIN.svg each; `work` is for files that are needed on the way.
    ///
    /// # Errors
    /// As [`Pages::table1`], and if an image cannot be segmented.
    pub fn figure3(
        &self,
        name: &str,
        program: &Program,
        domains: &[Domain],
        work: &Path,
    ) -> Outcome {
        for domain in domains {
            let work = work.join(&domain.name);
            let svg = figure3::draw(program, domain, self.plan, &work)?;
            let file = format!("{name}-{}.svg", domain.name);
            println!("{}", self.to.join(&file).display());
            self.text(&file, &svg)?;
        }
        Ok(())
    }

    fn page(&self, name: &str, words: &str, text: &str) -> Outcome {
        let scale = self.plan.scale;
        let seeds = match self.plan.seeds {
            1 => "1 seed".to_owned(),
            count => format!("{count} seeds, mean ± standard deviation"),
        };
        let mode = match scale.mode.as_str() {
            "" => String::new(),
            mode => format!(", mode `{mode}`"),
        };
        let whole = format!(
            "{}\nPreset `{}`{mode}; {seeds}.\n\n{}\n",
            words,
            scale.preset,
            text.trim_end()
        );
        let path = self.to.join(format!("{name}.md"));
        println!("{}", path.display());
        folders::write(&path, &whole)
    }

    fn text(&self, file: &str, text: &str) -> Outcome {
        folders::write(&self.to.join(file), text)
    }
}
