//! `--channel-axis` and `--plane`: what to take from a file that holds more than one plane.

use selfadapt_core::io::Axes;

/// What to take from each file.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct AxesFlags {
    /// Which axis of the file holds channels, counted from 0 [default: told by the file, else inferred]
    #[arg(long, value_name = "AXIS", help_heading = "Images")]
    channel_axis: Option<usize>,
    /// Which plane of a stack to take, counted from 0
    #[arg(long, value_name = "N", help_heading = "Images")]
    plane: Option<usize>,
}

impl AxesFlags {
    /// The flags that were given; for the others what a configuration says.
    pub fn over(self, config: Axes) -> Axes {
        Axes {
            channel_axis: self.channel_axis.or(config.channel_axis),
            plane: self.plane.or(config.plane),
        }
    }
}
