//! Segmentation metrics against ground truth, and the label-free criteria that stop an adaptation.
//!
//! Metrics take two label images; criteria take two readings of a model's own outputs and never see
//! ground truth. A criterion is a file: it registers itself under its name, and nothing lists them.
#![forbid(unsafe_code)]
pub mod aggregated_jaccard;
pub mod assignment;
pub mod average_precision;
pub mod changes;
pub mod detection;
pub mod disagreement;
pub mod dullness;
pub mod embedding_distance;
pub mod false_negative_rate;
pub mod inconsistency;
pub mod instability;
pub mod instance_count;
pub mod instance_size;
mod kept;
pub mod matching;
mod mean_change;
pub mod mean_confidence;
mod median;
pub mod new_instances;
pub mod shrinkage;
pub mod source_distance;
pub mod view_disagreement;
pub mod view_variance;
