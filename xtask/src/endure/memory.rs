//! The memory of a running process, looked at several times a second, by Linux's `/proc`.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::steps::Outcome;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Resident memory over the life of a process.
#[derive(Debug, Default)]
pub struct Course {
    /// How long it lived.
    pub seconds: f64,
    /// In MiB, one number a look.
    looks: Vec<f64>,
}

impl Course {
    /// The most that was seen, in MiB.
    pub fn peak(&self) -> f64 {
        self.looks.iter().copied().fold(0., f64::max)
    }

    /// The median of the second tenth, in MiB: after everything was set up.
    pub fn second_tenth(&self) -> f64 {
        self.tenth(1)
    }

    /// The median of the last tenth, in MiB.
    pub fn last_tenth(&self) -> f64 {
        self.tenth(9)
    }

    fn tenth(&self, which: usize) -> f64 {
        let count = self.looks.len();
        let part = which * count / 10..((which + 1) * count).div_ceil(10);
        let mut part = self.looks.get(part).unwrap_or_default().to_vec();
        part.sort_by(f64::total_cmp);
        part.get(part.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Runs a command to its end and watches its memory.
///
/// # Errors
/// If it cannot be started, fails, or there is no `/proc`.
pub fn watched(mut command: Command) -> Outcome<Course> {
    let began = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|reason| format!("cannot start {:?}: {reason}", command.get_program()))?;
    let status = format!("/proc/{}/status", child.id());
    let mut course = Course::default();
    loop {
        if let Some(ended) = child.try_wait().map_err(|e| e.to_string())? {
            course.seconds = began.elapsed().as_secs_f64();
            return match (ended.success(), course.looks.is_empty()) {
                (false, _) => Err(format!("{command:?} ended with {ended}")),
                (true, true) => Err(format!(
                    "{status}: expected VmRSS while it ran, found nothing; this task needs Linux"
                )),
                (true, false) => Ok(course),
            };
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        course.looks.extend(resident(&text));
        std::thread::sleep(PAUSE);
    }
}

/// `VmRSS` of a status file, in MiB.
fn resident(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let number = line.split_whitespace().next()?;
    number.parse().ok().map(|kib: f64| kib / 1024.)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_are_medians_of_their_part() {
        let looks = (0..100).map(f64::from).collect();
        let course = Course { seconds: 1., looks };
        assert_eq!(course.peak(), 99.);
        assert_eq!((course.second_tenth(), course.last_tenth()), (15., 95.));
        let few = Course {
            seconds: 1.,
            looks: vec![4., 2.],
        };
        assert_eq!((few.second_tenth(), few.last_tenth()), (4., 2.));
    }

    #[test]
    fn resident_memory_is_read_from_a_status() {
        let status = "Name:\tcat\nVmHWM:\t  2048 kB\nVmRSS:\t    1536 kB\n";
        assert_eq!(resident(status), Some(1.5));
        assert_eq!(resident("Name:\tgone\n"), None);
    }

    #[test]
    fn a_command_that_fails_is_no_course() {
        let mut command = Command::new("sleep");
        command.arg("0.3");
        let course = watched(command).unwrap();
        assert!(course.peak() > 0. && course.seconds >= 0.3);
        let mut command = Command::new("sleep");
        command
            .arg("an hour or two")
            .stderr(std::process::Stdio::null());
        assert!(watched(command).unwrap_err().contains("ended with"));
    }
}
