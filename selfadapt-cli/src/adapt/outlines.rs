//! Whether the pretrained model's outlines lie on the images' edges before anything is learned: told, or put right.

use selfadapt_core::error::{Error, Result};
use selfadapt_core::monitor::Probe;
use selfadapt_core::network::Network;
use selfadapt_core::outlines::Level;
use selfadapt_core::params::ParamSet;

use super::observe::Observer;
use super::record::{Line, OutlinesLine};
use super::settings::RunConfig;

/// From how much sharper edges on (a logarithm of a ratio) a person is told that outlines look too wide.
const WIDE: f64 = 0.1;

/// Where nothing was to be won.
const LEFT: &str = "outlines were left as the model draws them: tighter ones would lie on no sharper edges, or lose cells";

/// Looks at the outlines that `untouched` draws on the validation crops; none where nobody asks for it, or no single number
/// moves them.
///
/// # Errors
/// If they are to be fitted and no number moves them, the crops do not fit the network, or its maps not the decoder.
pub fn look(
    config: &RunConfig,
    untouched: &Network,
    probe: &Probe,
) -> Result<Option<OutlinesLine>> {
    let outlines = &config.outlines;
    let Some(foreground) = untouched.model.foreground() else {
        if outlines.apply {
            return Err(Error::Setting(format!(
                "outlines: expected a model whose outlines one number moves, found {}, which has none; leave --fit-outlines \
                 away",
                config.model.typetag_name()
            )));
        }
        return Ok(None);
    };
    if outlines.most <= 0. {
        return Ok(None);
    }
    let maps = probe.maps(untouched, config.adapt.batch)?;
    let decoder = config.model.decoder_at(1.);
    let fit = outlines.fit(&foreground, probe.crops(), &maps, decoder.as_ref())?;
    Ok(Some(OutlinesLine {
        applied: outlines.apply,
        fit,
    }))
}

/// What an earlier part of the run saw.
pub fn recorded(lines: &[Line]) -> Option<OutlinesLine> {
    lines.iter().find_map(|line| match line {
        Line::Outlines(seen) => Some(seen.clone()),
        _ => None,
    })
}

/// The weights that a run begins with in place of the pretrained ones: a copy whose outlines are fitted, where that is asked
/// for and moves them.
///
/// # Errors
/// If the foreground's bias is not among them.
pub fn fitted(
    untouched: &Network,
    pretrained: &ParamSet,
    seen: Option<&OutlinesLine>,
) -> Result<Option<ParamSet>> {
    let moved = seen.filter(|seen| seen.applied && seen.fit.fall > 0.);
    let (Some(foreground), Some(seen)) = (untouched.model.foreground(), moved) else {
        return Ok(None);
    };
    let begin = pretrained.fork()?;
    foreground.lower(&begin, seen.fit.fall)?;
    Ok(Some(begin))
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
    let edges = |level: &Level| {
        format!(
            "as by a threshold raised by {}, the images change {:.0} % more across them, and {:.1} of 100 cells are lost by it",
            level.fall,
            100. * level.sharper.exp_m1(),
            100. * level.lost
        )
    };
    match (seen.applied, seen.fit.taken()) {
        (true, Some(level)) => Some(format!(
            "the run began with outlines drawn tighter: {}; a model that is kept is not touched",
            edges(level)
        )),
        (true, None) => Some(LEFT.to_owned()),
        (false, Some(level)) if level.sharper >= WIDE => Some(format!(
            "the pretrained model's outlines look too wide: drawn tighter, {}; look at an overlay, and if they are, adapt with \
             --fit-outlines",
            edges(level)
        )),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::outlines::Fit;

    fn told(applied: bool, sharper: f64) -> Option<String> {
        let fall = if sharper > 0. { 0.5 } else { 0. };
        let levels = vec![Level {
            fall: 0.5,
            sharper,
            lost: 0.004,
        }];
        words(&OutlinesLine {
            applied,
            fit: Fit { fall, levels },
        })
    }

    #[test]
    fn a_person_is_told_of_outlines_that_are_wide_or_were_moved() {
        let wide = told(false, 0.2).unwrap();
        insta::assert_snapshot!(wide, @"the pretrained model's outlines look too wide: drawn tighter, as by a threshold raised by 0.5, the images change 22 % more across them, and 0.4 of 100 cells are lost by it; look at an overlay, and if they are, adapt with --fit-outlines");
        assert_eq!(told(false, 0.05), None);
        assert_eq!(told(false, -0.1), None);
        let moved = told(true, 0.05).unwrap();
        insta::assert_snapshot!(moved, @"the run began with outlines drawn tighter: as by a threshold raised by 0.5, the images change 5 % more across them, and 0.4 of 100 cells are lost by it; a model that is kept is not touched");
        assert_eq!(told(true, -0.1).unwrap(), LEFT);
    }
}
