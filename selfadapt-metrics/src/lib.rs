//! Metrics and criteria.
