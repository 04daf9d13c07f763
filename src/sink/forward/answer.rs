//! What an answer means, and what of it may be shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::config::Target;
use super::signing::SigningKey;
use crate::secret::Hidden;
use crate::sink::FailureKind;

/// A shorter value of a header is not hidden.
const SHORTEST_SECRET: usize = 4;

/// What an answer other than 2xx means.
pub(super) fn kind(status: StatusCode, after: Option<Duration>) -> FailureKind {
    match status.as_u16() {
        410 => FailureKind::Gone,
        429 | 503 if after.is_some() => FailureKind::Away { after },
        408 | 425 | 429 => FailureKind::TryAgain { after },
        300..=499 => FailureKind::Refused,
        _ => FailureKind::TryAgain { after },
    }
}

/// What a status says by itself, for people.
pub(super) fn remark(status: StatusCode) -> &'static str {
    match status.as_u16() {
        410 => " (the destination is gone)",
        300..=399 => " (redirects are not followed)",
        _ => "",
    }
}

/// What `Retry-After` asks for, in seconds or as a date. One that is neither counts as none.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More than a century is as good as one, and can be added to any time without overflowing.
        return Some(Duration::from_secs(value.parse().unwrap_or(u32::MAX).into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Everything secret in a request, as destinations like to repeat what they were sent: all of the URL but its host, the headers'
/// values and the keys.
pub(super) fn hidden(target: &Target, headers: &HeaderMap, keys: &[SigningKey]) -> Hidden {
    // The form in which the URL's name and password are sent.
    let url = target.url();
    let mut credentials = percent_decode_str(url.username()).collect::<Vec<u8>>();
    credentials.push(b':');
    credentials.extend(percent_decode_str(url.password().unwrap_or_default()));
    let basic = (credentials.len() > 1).then(|| STANDARD.encode(&credentials));
    let keys: Vec<String> = keys.iter().map(SigningKey::expose).collect();
    let values = headers.values().filter_map(|value| value.to_str().ok());
    // `Bearer …` and the like may be repeated without the first word.
    let values = values.flat_map(|value| [Some(value), value.split_once(' ').map(|(_, rest)| rest)]).flatten();
    // What is shorter is a part of many words, and guards nothing.
    let values = values.filter(|value| value.len() >= SHORTEST_SECRET);
    Hidden::with_url(url, keys.iter().map(String::as_str).chain(basic.as_deref()).chain(values))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;
    use crate::sink::excerpt::excerpt;

    #[test]
    fn each_status_means_what_the_readme_says() {
        let after = Some(Duration::from_secs(7));
        for (status, without, with) in [
            (300, FailureKind::Refused, FailureKind::Refused),
            (302, FailureKind::Refused, FailureKind::Refused),
            (400, FailureKind::Refused, FailureKind::Refused),
            (401, FailureKind::Refused, FailureKind::Refused),
            (404, FailureKind::Refused, FailureKind::Refused),
            (408, FailureKind::TryAgain { after: None }, FailureKind::TryAgain { after }),
            (410, FailureKind::Gone, FailureKind::Gone),
            (422, FailureKind::Refused, FailureKind::Refused),
            (425, FailureKind::TryAgain { after: None }, FailureKind::TryAgain { after }),
            (429, FailureKind::TryAgain { after: None }, FailureKind::Away { after }),
            (500, FailureKind::TryAgain { after: None }, FailureKind::TryAgain { after }),
            (503, FailureKind::TryAgain { after: None }, FailureKind::Away { after }),
            (599, FailureKind::TryAgain { after: None }, FailureKind::TryAgain { after }),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!((kind(status, None), kind(status, after)), (without, with), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_every_form_of_its_rfc() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").unwrap();
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn an_excerpt_shows_neither_secrets_nor_phone_numbers_nor_control_characters() {
        let target =
            Target::try_from("https://me:pass%21word@example.com/hooks/T0KEN?key=s3cr3t&a=7".to_owned()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer abc.def"));
        headers.insert("x-version", HeaderValue::from_static("4"));
        let key = SigningKey::try_from("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned()).unwrap();
        let hidden = hidden(&target, &headers, &[key]);
        for (body, shown) in [
            ("no POST /hooks/T0KEN?key=s3cr3t&a=7", "no POST …?…"),
            ("T0KEN, s3cr3t, pass!word, pass%21word, abc.def", "…, …, …, …, …"),
            ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "…"),
            ("phone 5544999999999 is wrong", "phone 55449****9999 is wrong"),
            ("phone 5544979999999 is wrong", "phone 55449****9999 is wrong"),
            ("+55 (44) 99999-9999!", "+55 (4****9999!"),
            ("55.44.99999.9999 55/44/99999/9999", "55.44****9999"),
            ("55_44_99999_9999", "55_44****9999"),
            ("no user bWU6cGFzcyF3b3Jk", "no user …"),
            ("error 123456 in 3 of 4", "error 123456 in 3 of 4"),
            ("a\r\n\r\n\tb\u{1b}[2Jc\0", "a b\u{fffd}[2Jc\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(excerpt(body.as_bytes(), &hidden), shown);
        }
        assert_eq!(excerpt(&[0xff, b'a'], &hidden), "\u{fffd}a");
        assert_eq!(excerpt("é".repeat(5000).as_bytes(), &hidden), format!("{}…", "é".repeat(200)));
    }
}
