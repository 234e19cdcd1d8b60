//! Durations and deadlines as people write them.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::text::{Invalid, validated_string};

validated_string! {
    /// A positive length of time such as `5m`, `1h30m` or `7d`.
    Interval, "a length of time, as 5m", check = check_interval, pattern = r"^[0-9][0-9a-zA-Z ]*$", max = 40,
    about = "A length of time such as 30s, 5m, 1h30m or 7d"
}

validated_string! {
    /// A moment at which something ends: a date (its first moment in UTC) or an RFC 3339 time.
    Deadline, "a date, as 2026-12-01", check = check_deadline, pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?$", max = 40,
    about = "A date (2026-12-01, from its first moment in UTC) or an RFC 3339 time (2026-12-01T08:00:00Z)"
}

validated_string! {
    /// When a window opens: a cron expression of five fields.
    Schedule, "a cron expression, as \"0 22 * * 1-5\"", check = check_schedule, pattern = r"^\S+( +\S+){4}$", max = 200,
    about = "A cron expression of five fields: minute, hour, day of the month, month, day of the week"
}

validated_string! {
    /// A time zone of the IANA database.
    ZoneName, "a time zone, as Europe/Berlin", check = check_zone, pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", max = 60,
    about = "A time zone of the IANA database, such as UTC or Europe/Berlin"
}

fn check_schedule(text: &str) -> Result<(), Invalid> {
    if text.split_whitespace().count() != 5 {
        let message = format!("{text:?} is not a cron expression of five fields");
        return Err(Invalid::new(message, "write for example \"0 22 * * 1-5\""));
    }
    const FORM: &str = "write minute, hour, day of the month, month and day of the week, as \"0 22 * * 1-5\"";
    let cron = text.parse::<croner::Cron>().map_err(|error| {
        let error = error.to_string().to_lowercase();
        let cause = error.trim_start_matches("component error: ").trim_end_matches('.');
        Invalid::new(format!("{text:?} is not a cron expression: {cause}"), FORM)
    })?;
    match cron.find_next_occurrence(&Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC), true) {
        Ok(_) => Ok(()),
        Err(_) => Err(Invalid::new(format!("{text:?} never comes: no month has that day"), FORM)),
    }
}

fn check_zone(text: &str) -> Result<(), Invalid> {
    jiff::tz::TimeZone::get(text).map(drop).map_err(|_| {
        let message = format!("{text:?} is not a time zone of the IANA database");
        Invalid::new(message, "write for example UTC or Europe/Berlin")
    })
}

fn parse_interval(text: &str) -> Option<SignedDuration> {
    // jiff reads days only where a calendar is given; a day of a policy is 24 hours.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<i64>().ok()) {
        return SignedDuration::try_from_hours(days.checked_mul(24)?);
    }
    text.parse().ok()
}

fn check_interval(text: &str) -> Result<(), Invalid> {
    const FORM: &str = "write for example 30s, 5m, 1h30m or 7d";
    match parse_interval(text) {
        Some(length) if length.is_positive() => Ok(()),
        Some(_) => Err(Invalid::new(format!("{text:?} is not longer than 0"), FORM)),
        None => Err(Invalid::new(format!("{text:?} is not a length of time"), FORM)),
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
        None => Err(Invalid::new(
            format!("{text:?} is not a date or time"),
            "write for example 2026-12-01 or 2026-12-01T08:00:00Z",
        )),
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
    fn schedules_and_zones() {
        for good in ["0 22 * * 1-5", "*/15 * * * *", "0 0 1 jan mon"] {
            assert!(good.parse::<Schedule>().is_ok(), "{good}");
        }
        assert!("0 0 29 2 *".parse::<Schedule>().is_ok(), "in a leap year");
        for bad in ["", "not cron", "61 * * * *", "0 22 * *", "0 0 22 * * 1", "0 0 31 2 *"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
        assert!("Asia/Shanghai".parse::<ZoneName>().is_ok());
        assert!("Mars/Base".parse::<ZoneName>().is_err());
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
