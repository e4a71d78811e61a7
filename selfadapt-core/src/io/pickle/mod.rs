//! Python's pickles, as far as NumPy's object files need them: read without running anything, and written.

mod machine;
pub(super) mod read;
pub(super) mod write;
