//! Whether the pretrained model's outlines lie on the images' edges, before anything is learned: told.

use selfadapt_core::error::Result;
use selfadapt_core::monitor::Probe;
use selfadapt_core::network::Network;

use super::observe::Observer;
use super::record::{Line, OutlinesLine};
use super::settings::RunConfig;

/// From how many of 100 cells on a person is told that outlines look too wide.
const WIDE: f64 = 50.;

/// Looks at the outlines that `untouched` draws on the validation crops; none where nobody asks for it, or no map
/// of logits draws them.
///
/// # Errors
/// If the crops do not fit the network, or its maps not the decoder.
pub fn look(
    config: &RunConfig,
    untouched: &Network,
    probe: &Probe,
) -> Result<Option<OutlinesLine>> {
    let outlines = &config.adapt.outlines;
    let Some(foreground) = untouched.model.foreground() else {
        return Ok(None);
    };
    if outlines.most <= 0. {
        return Ok(None);
    }
    let maps = probe.maps(untouched, config.adapt.batch)?;
    let decoder = config.model.decoder_at(1.);
    let fit = outlines.look(&foreground, probe.crops(), &maps, decoder.as_ref())?;
    Ok(Some(OutlinesLine {
        fitted: outlines.fit,
        fit,
    }))
}

/// Records what was seen and says what a person should know of it.
///
/// # Errors
/// If the record cannot be written.
pub fn tell(
    seen: Option<OutlinesLine>,
    observer: &mut Observer,
    notes: &mut Vec<String>,
) -> Result<()> {
    let Some(seen) = seen else {
        return Ok(());
    };
    if let Some(told) = words(&seen) {
        observer.progress.say(&told);
        notes.push(told);
    }
    observer.record.push(&Line::Outlines(seen))
}

/// What was seen, in a sentence; none where there is nothing to know.
pub fn words(seen: &OutlinesLine) -> Option<String> {
    let fit = &seen.fit;
    if fit.cells == 0 {
        return None;
    }
    let share = 100. * fit.wide as f64 / fit.cells as f64;
    let edges = format!(
        "where {share:.0} of 100 cells are drawn tighter, the images change {:.0} % more across their outlines",
        100. * fit.sharper.exp_m1(),
    );
    match seen.fitted {
        true => Some(format!(
            "the run learns from outlines that are fitted to the images' edges: at first, {edges}"
        )),
        false if share >= WIDE => Some(format!(
            "the pretrained model's outlines look too wide: {edges}; look at an overlay, and if nuclei end \
             inside of them, adapt with --fit-outlines"
        )),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::outlines::Fit;

    fn told(fitted: bool, wide: usize) -> Option<String> {
        words(&OutlinesLine {
            fitted,
            fit: Fit {
                cells: 200,
                wide,
                fall: 0.5,
                sharper: 0.2,
            },
        })
    }

    #[test]
    fn a_person_is_told_of_outlines_that_are_wide_or_are_fitted() {
        insta::assert_snapshot!(told(false, 150).unwrap(), @"the pretrained model's outlines look too wide: where 75 of 100 cells are drawn tighter, the images change 22 % more across their outlines; look at an overlay, and if nuclei end inside of them, adapt with --fit-outlines");
        assert_eq!(told(false, 50), None);
        insta::assert_snapshot!(told(true, 50).unwrap(), @"the run learns from outlines that are fitted to the images' edges: at first, where 25 of 100 cells are drawn tighter, the images change 22 % more across their outlines");
        let nothing = OutlinesLine {
            fitted: true,
            fit: Fit::default(),
        };
        assert_eq!(words(&nothing), None);
    }
}
