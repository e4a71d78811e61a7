//! What the user sees: log lines, progress bars and errors, all on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use miette::{GraphicalReportHandler, GraphicalTheme};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::Console;
use crate::failure::Failure;

/// All progress bars: log lines are printed above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// `1 image`, `2 images`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Starts logging and the thread pool as the user wishes; `RUST_LOG` overrides the level.
pub fn set_up(console: &Console) {
    let level = match (console.quiet, console.verbose) {
        (true, _) => "error",
        (_, 0) => "warn,selfadapt=info",
        (_, 1) => "info,selfadapt=debug",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBars)
        .with_ansi(io::stderr().is_terminal())
        .with_target(console.verbose > 1)
        .without_time()
        .compact()
        .init();
    if console.quiet {
        BARS.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Some(threads) = console.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
        if let Err(reason) = pool.build_global() {
            tracing::warn!("--threads {threads} has no effect: {reason}");
        }
    }
}

/// A bar that counts `length` of `what`; invisible where standard error is no terminal.
pub fn bar(length: usize, what: &'static str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(length as u64));
    let template = "{msg} {wide_bar} {pos}/{len}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// A bar over the bytes of `what`, whose length may not be known yet; invisible where standard error is no terminal.
pub fn bytes_bar(what: &str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::no_length());
    let template = "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what.to_owned())
}

/// Prints an error and its hint.
pub fn show(failure: Failure) {
    let theme = if io::stderr().is_terminal() {
        GraphicalTheme::default()
    } else {
        GraphicalTheme::none()
    };
    let mut text = String::new();
    let shown = GraphicalReportHandler::new_themed(theme)
        .with_wrap_lines(false)
        .render_report(&mut text, &failure);
    match shown {
        Ok(()) => eprint!("{text}"),
        Err(_) => eprintln!("{failure}"),
    }
}

/// Standard error, above any progress bar.
#[derive(Clone, Copy)]
struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}
