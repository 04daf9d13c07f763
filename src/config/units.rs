//! How durations and sizes are written in the configuration.

/// Durations as `"30s"`, `"10m"`, `"30d"`.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let duration = humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!("not a duration ({error}), expected one such as \"30s\", \"10m\" or \"30d\""))
        })?;
        if duration.is_zero() {
            return Err(D::Error::custom("is zero, expected a duration such as \"30s\""));
        }
        Ok(duration)
    }
}

/// Sizes as `"64KiB"`, `"10GiB"`.
pub(crate) mod size {
    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size: bytesize::ByteSize =
            text.parse().map_err(|_| D::Error::custom("not a size, expected one such as \"64KiB\" or \"10GiB\""))?;
        if size.as_u64() == 0 {
            return Err(D::Error::custom("is zero, expected a size such as \"64KiB\""));
        }
        Ok(size.as_u64())
    }
}

/// Counts of at least one.
pub(crate) fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    use serde::Deserialize as _;
    let count = std::num::NonZeroUsize::deserialize(deserializer)?;
    if count.get() > 1_000_000 {
        return Err(serde::de::Error::custom("is more than 1000000"));
    }
    Ok(count.get())
}
