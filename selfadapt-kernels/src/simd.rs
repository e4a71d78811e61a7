//! Compiles a loop once for each instruction set and picks one at run time.

use std::sync::atomic::{AtomicU8, Ordering};

/// How wide the compiler may vectorise. Every level computes the same bits: the loops fix their own
/// summation order and nothing is contracted to fused multiply-adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on AArch64.
    Baseline = 1,
    /// AVX2.
    Avx2 = 2,
    /// AVX-512 (F, BW, DQ, VL).
    Avx512 = 3,
}

/// The level in use; 0 until it is first asked for.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// What this processor offers.
pub fn detected() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") {
            return Level::Avx2;
        }
    }
    Level::Baseline
}

/// The level that dispatched loops run at.
pub(crate) fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => {
            let level = detected();
            LEVEL.store(level as u8, Ordering::Relaxed);
            level
        }
    }
}

/// Restricts dispatched loops to `limit` or what the processor offers, whichever is less, for the whole
/// process: to compare levels.
pub fn restrict(limit: Level) {
    LEVEL.store(limit.min(detected()) as u8, Ordering::Relaxed);
}

/// Defines a function whose body is compiled for every [`Level`] and dispatched on [`level`].
macro_rules! dispatched {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident: $b:path),+>)? (
        $($arg:ident: $ty:ty),+ $(,)?
    ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$($g: $b),+>)? ($($arg: $ty),+) $(-> $ret)? {
            #[inline(always)]
            fn body $(<$($g: $b),+>)? ($($arg: $ty),+) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2 $(<$($g: $b),+>)? ($($arg: $ty),+) $(-> $ret)? { body($($arg),+) }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512 $(<$($g: $b),+>)? ($($arg: $ty),+) $(-> $ret)? { body($($arg),+) }
                match $crate::simd::level() {
                    // SAFETY: the level never exceeds what was detected on this processor.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),+) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),+) },
                    $crate::simd::Level::Baseline => {}
                }
            }
            body($($arg),+)
        }
    };
}
pub(crate) use dispatched;
