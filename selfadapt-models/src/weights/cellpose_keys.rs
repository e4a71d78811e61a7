//! Telling Cellpose's checkpoints by the names of their tensors.

use std::collections::BTreeSet;

use crate::format::Recognition;

/// What the names of a checkpoint's tensors say about it being a CPnet of Cellpose 1 to 3.
///
/// Names are those of Cellpose's `state_dict` without `DataParallel`'s `module.`. The diameters `diam_mean`
/// and `diam_labels` are optional: the built-in models of Cellpose 1 and 2 lack them.
pub fn recognise<'a>(names: impl IntoIterator<Item = &'a str>) -> Recognition {
    let names: BTreeSet<&str> = names.into_iter().collect();
    if names.contains("W2") || names.iter().any(|name| name.starts_with("encoder.")) {
        return Recognition::Refused(
            "a transformer, as Cellpose 4's cpsam and cpdino are, not a CPnet; give a checkpoint of \
             Cellpose 1 to 3, such as cyto3, cyto2, nuclei or a model trained from them"
                .into(),
        );
    }
    let begins = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    if !begins("downsample.down.res_down_") && !begins("downsample.down.down_0") {
        return Recognition::Foreign;
    }
    if begins("downsample.down.down_0") {
        return Recognition::Refused(
            "a Cellpose network without residual blocks (trained with residual_on=False), which is not \
             supported; give one trained with the default settings"
                .into(),
        );
    }
    if names.contains("output.2.weight") && begins("upsample.up.res_up_") {
        return Recognition::Known;
    }
    Recognition::Refused(
        "looks like part of a Cellpose checkpoint: upsample.up.res_up_* or output.2.weight is missing"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_apart() {
        let cpnet = [
            "downsample.down.res_down_0.conv.conv_0.0.weight",
            "upsample.up.res_up_0.conv.conv_0.0.weight",
            "output.2.weight",
        ];
        assert_eq!(recognise(cpnet), Recognition::Known);
        assert_eq!(recognise(["features.0.weight"]), Recognition::Foreign);
        assert_eq!(recognise([]), Recognition::Foreign);
        for (names, words) in [
            (["W2", "encoder.pos_embed"], "not a CPnet"),
            (
                ["downsample.down.down_0.conv_0.0.weight", "output.2.weight"],
                "residual",
            ),
            ([cpnet[0], cpnet[1]], "output.2.weight is missing"),
        ] {
            match recognise(names) {
                Recognition::Refused(reason) => assert!(reason.contains(words), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
