//! Quantiles on a GPU: three counts of eleven, eleven and ten bits find the exact value of a rank.

use candle_core::{Result, bail};

use super::{NAME, check_share, cpu};
use crate::cuda::{Array, Launch, Program, blocks_for, count};

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "quantile.cu",
    source: include_str!("quantile.cu"),
    kernels: &["digits", "next_key"],
};

/// Values of a digit.
const BINS: usize = 2048;
/// The bit below which each digit ends, and the bit at which it begins.
const DIGITS: [(u32, u32); 3] = [(32, 21), (21, 10), (10, 0)];

/// One channel of `x [B, channels, pixels]` and what is kept of it.
#[derive(Clone, Copy)]
struct Channel<'a> {
    x: &'a Array<f32>,
    mask: Option<&'a Array<f32>>,
    pixels: u32,
    channels: u32,
    channel: u32,
}

/// The `q`-quantile of each channel of `x [B, channels, pixels]`, as [`super::quantile_per_channel`], to the bit.
///
/// # Errors
/// If a kept value is NaN, q lies outside `[0, 1]`, lengths do not fit, or the device fails.
pub fn quantile_per_channel(
    x: &Array<f32>,
    mask: Option<&Array<f32>>,
    channels: usize,
    pixels: usize,
    q: f64,
) -> Result<Vec<Option<f32>>> {
    let q = check_share(q)?;
    let image = channels * pixels;
    if image == 0 || !x.len().is_multiple_of(image) {
        bail!(
            "{NAME}: expected whole images of {channels} channels and {pixels} pixels, got {} numbers",
            x.len()
        )
    }
    if let Some(mask) = mask {
        mask.expect(NAME, "the mask", x.len())?;
    }
    count(NAME, x.len())?;
    (0..channels)
        .map(|channel| {
            let channel = Channel {
                x,
                mask,
                pixels: pixels as u32,
                channels: channels as u32,
                channel: channel as u32,
            };
            channel.quantile(q)
        })
        .collect()
}

impl<'a> Channel<'a> {
    fn quantile(self, q: f64) -> Result<Option<f32>> {
        let mut prefix = 0;
        let mut ranks: Option<cpu::Ranks> = None;
        // How many kept values lie below those that begin with `prefix`.
        let mut before = 0;
        let (mut same, mut higher) = (0, None);
        for (top, shift) in DIGITS {
            let counts = self.digits(top, prefix, shift)?;
            let (bins, nan) = counts.split_at(BINS);
            if nan != [0] {
                bail!("{NAME}: expected numbers, got {} NaN", nan[0])
            }
            let sought = match ranks {
                Some(ranks) => ranks,
                None => {
                    let total = bins.iter().map(|&count| count as usize).sum();
                    if total == 0 {
                        return Ok(None);
                    }
                    *ranks.insert(cpu::Ranks::new(q, total))
                }
            };
            let mut bin = 0;
            while bin + 1 < BINS && before + bins[bin] as usize <= sought.rank {
                before += bins[bin] as usize;
                bin += 1;
            }
            prefix = prefix << (top - shift) | bin as u32;
            same = bins[bin] as usize;
            higher = (bin + 1..BINS).find(|&other| bins[other] > 0);
        }
        let Some(ranks) = ranks else { return Ok(None) };
        // The last digit has ten bits: `prefix` is the whole key of the value at the rank.
        let low = prefix;
        let high = if ranks.next < before + same {
            low
        } else if let Some(digit) = higher {
            low >> 10 << 10 | digit as u32
        } else {
            self.next_key(low)?
        };
        Ok(Some(ranks.between(low, high)))
    }

    fn digits(self, top: u32, prefix: u32, shift: u32) -> Result<Vec<u32>> {
        let mut counts = Array::zeros(self.x.machine(), BINS + 1)?;
        let launch = self
            .launch("digits")
            .u32(top)
            .u32(prefix)
            .u32(shift)
            .out(&mut counts);
        // SAFETY: the arguments are the kernel's; x and the mask are of whole images, counts one a bin and one more.
        unsafe { launch.run(blocks_for(self.values())) }?;
        counts.read()
    }

    /// The least key above `key`; all ones if there is none.
    fn next_key(self, key: u32) -> Result<u32> {
        let mut least = Array::of(self.x.machine(), &[u32::MAX])?;
        let launch = self.launch("next_key").u32(key).out(&mut least);
        // SAFETY: the arguments are the kernel's; x and the mask are of whole images.
        unsafe { launch.run(blocks_for(self.values())) }?;
        Ok(least.read()?[0])
    }

    /// What both kernels take first.
    fn launch(self, kernel: &'static str) -> Launch<'a> {
        Launch::new(self.x.machine(), &PROGRAM, kernel)
            .array(self.x)
            .maybe(self.mask)
            .u32(self.values())
            .u32(self.pixels)
            .u32(self.channels)
            .u32(self.channel)
    }

    fn values(self) -> u32 {
        self.x.len() as u32 / self.channels
    }
}
