//! Durations and deadlines as people write them.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::text::{Invalid, validated_string};

validated_string! {
    /// A positive length of time such as `5m`, `1h30m` or `7d`.
    Interval, check = check_interval, pattern = r"^[0-9][0-9a-zA-Z ]*$", max = 40,
    about = "A length of time such as 30s, 5m, 1h30m or 7d"
}

validated_string! {
    /// A moment at which something ends: a date (its first moment in UTC) or an RFC 3339 time.
    Deadline, check = check_deadline, pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?$", max = 40,
    about = "A date (2026-12-01, from its first moment in UTC) or an RFC 3339 time (2026-12-01T08:00:00Z)"
}

fn parse_interval(text: &str) -> Option<SignedDuration> {
    // jiff reads days only where a calendar is given; a day of a policy is 24 hours.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<i64>().ok()) {
        return SignedDuration::try_from_hours(days.checked_mul(24)?);
    }
    text.parse().ok()
}

fn check_interval(text: &str) -> Result<(), Invalid> {
    match parse_interval(text) {
        Some(length) if length.is_positive() => Ok(()),
        Some(_) => {
            Err(Invalid::new(format!("{text:?} is not a length of time that drover can use: it must be longer than 0")))
        }
        None => Err(Invalid::new(format!("{text:?} is not a length of time: write for example 30s, 5m, 1h30m or 7d"))),
    }
}

fn parse_deadline(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let date: Date = text.parse().ok()?;
    format!("{date}T00:00:00Z").parse().ok()
}

fn check_deadline(text: &str) -> Result<(), Invalid> {
    match parse_deadline(text) {
        Some(_) => Ok(()),
        None => Err(Invalid::new(format!(
            "{text:?} is not a date or time: write for example 2026-12-01 or 2026-12-01T08:00:00Z"
        ))),
    }
}

impl Interval {
    /// Its length.
    pub fn duration(&self) -> std::time::Duration {
        parse_interval(self.as_str()).and_then(|length| length.try_into().ok()).unwrap_or_default()
    }
}

impl Deadline {
    /// The moment itself.
    pub fn moment(&self) -> Timestamp {
        parse_deadline(self.as_str()).unwrap_or(Timestamp::MIN)
    }

    /// Whether it lies at or before `now`.
    pub fn has_passed(&self, now: Timestamp) -> bool {
        self.moment() <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let seconds = |text: &str| text.parse::<Interval>().map(|i| i.duration().as_secs()).ok();
        assert_eq!(seconds("5m"), Some(300));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("0s"), None);
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("99999999999999999999d"), None);
    }

    #[test]
    fn deadlines() {
        let date: Deadline = super::super::text::known("2026-12-01");
        assert_eq!(date.moment().to_string(), "2026-12-01T00:00:00Z");
        assert!(date.has_passed("2026-12-01T00:00:00Z".parse().expect("a time")));
        assert!(!date.has_passed("2026-11-30T23:59:59Z".parse().expect("a time")));
        assert!("2026-13-01".parse::<Deadline>().is_err());
        assert!("tomorrow".parse::<Deadline>().is_err());
    }
}
