//! How values are written in the configuration, and what is said of those that are not: what was expected.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Durations as `"30s"`, `"10m"`, `"30d"`.
pub(crate) mod duration {
    use std::time::Duration;

    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, de::Error};

    /// Ten years. A clock can add this to any time.
    const MAX: Duration = Duration::from_secs(3650 * 24 * 3600);

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+ *[a-zA-Zµ]+ *)+$", "examples": ["30s", "10m", "30d"] })
    }

    /// Reads one that is more than nothing.
    pub(crate) fn parse(text: &str) -> Result<Duration, String> {
        match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err("is zero, expected a duration such as \"30s\"".into()),
            Ok(duration) if duration > MAX => Err("is longer than ten years (3650d)".into()),
            Ok(duration) => Ok(duration),
            Err(error) => Err(format!("not a duration ({error}), expected one such as \"30s\", \"10m\" or \"30d\"")),
        }
    }
}

/// Durations that may be left out.
pub(crate) fn optional_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<std::time::Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

/// Sizes as `"64KiB"`, `"10GiB"`.
pub(crate) mod size {
    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, de::Error};

    pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9.]+ *[a-zA-Z]*$", "examples": ["64KiB", "10GiB"] })
    }

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
    use serde::{Deserialize as _, de::Error as _};
    const MAX: usize = 1_000_000;
    let count = usize::deserialize(deserializer).ok().filter(|count| (1..=MAX).contains(count));
    count.ok_or_else(|| D::Error::custom(format!("not a count, expected a whole number from 1 to {MAX}")))
}

/// Addresses to listen on.
pub(crate) fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<std::net::SocketAddr, D::Error> {
    use serde::{Deserialize as _, de::Error as _};
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom("not an IP address and a port, expected such as \"127.0.0.1:8080\""))
}

/// What an address is in the schema.
pub(crate) fn address_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^([0-9.]+|\\[[0-9a-fA-F:.]+\\]):[0-9]+$", "examples": ["127.0.0.1:8080"] })
}

/// Lists of networks.
pub(crate) fn networks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<ipnet::IpNet>, D::Error> {
    use serde::{Deserialize as _, de::Error as _};
    let expected = || D::Error::custom("not a network, expected such as \"203.0.113.0/24\" or \"203.0.113.7/32\"");
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| text.parse().map_err(|_| expected())).collect()
}

/// URLs.
pub(crate) fn url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<url::Url, D::Error> {
    use serde::{Deserialize as _, de::Error as _};
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| {
        D::Error::custom(format!("not a URL ({error}), expected such as \"https://status.example.com\""))
    })
}

/// What a URL is in the schema.
pub(crate) fn url_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "uri" })
}

/// URLs that may be left out.
pub(crate) fn optional_url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<url::Url>, D::Error> {
    url(deserializer).map(Some)
}
