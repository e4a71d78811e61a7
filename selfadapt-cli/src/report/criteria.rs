//! Criteria in the words of a person who looks at cells.

/// What a criterion measures, in a few words.
pub fn spoken(name: &str) -> String {
    match name {
        "false-negative-rate" => "cells of your model that are no longer found",
        "embedding-distance" => "how far the network's features have moved",
        "inconsistency" => "how badly the network's maps fit the cells cut from them",
        "new-instances" => "cells that your model did not find",
        "shrinkage" => "how much smaller the cells of your model are drawn",
        "dullness" => "how much less the image changes along the outlines of known cells",
        "mean-confidence" => "change of the network's confidence",
        "view-variance" => "disagreement between flipped and turned views",
        "instability" => "cells that are lost when noise and blur are added",
        "instance-count" => "change of the number of cells",
        "instance-size" => "change of the cells' size",
        other => return other.replace('-', " "),
    }
    .to_owned()
}

/// What a user must know of the licence of weights, by the model's name in `config.toml`.
pub fn licence(model: &str) -> &'static str {
    match model {
        "cellpose" => {
            "Adapted weights keep the licence of the model that they come from. Nearly all of Cellpose's own models were \
             trained in part on data under CC-BY-NC: ask before any commercial use. A model that you trained yourself is yours."
        }
        "stardist" => {
            "Adapted weights keep the licence of the model that they come from. StarDist's own models are BSD-3; the data \
             behind 2D_versatile_he is CC-BY-NC-SA."
        }
        "mesmer" => {
            "Adapted weights keep the licence of the model that they come from. Mesmer's weights are for non-commercial \
             academic use only."
        }
        _ => "Adapted weights keep the licence of the model that they come from.",
    }
}
