//! Numerical kernels of SelfAdapt.
