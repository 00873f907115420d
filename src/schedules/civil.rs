//! Civil time: what a clock on the wall shows, without a time zone. croner searches here; what an hour
//! that is skipped or repeated means is decided in `zone`.

use std::cmp::Ordering;

use croner::errors::CronError;
use croner::{CivilDateTime, CronDateTime, Resolution, Weekday};

const DAY: i64 = 86_400;

/// Seconds since 1970-01-01 00:00 of the same clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil(pub i64);

impl Civil {
    #[cfg(test)]
    pub fn new(year: i32, month: u32, day: u32, hour: u32, minute: u32) -> Self {
        Civil(days(year, month, day) * DAY + i64::from(hour) * 3600 + i64::from(minute) * 60)
    }

    fn date(self) -> (i32, u32, u32) {
        date(self.0.div_euclid(DAY))
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (by eras of 400 years, which begin in March).
fn days(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The other way round.
fn date(days: i64) -> (i32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u32, day as u32)
}

impl CronDateTime for Civil {
    fn to_civil(&self) -> CivilDateTime {
        let (year, month, day) = self.date();
        let second = self.0.rem_euclid(DAY) as u32;
        CivilDateTime::from_ymd_hms_opt(year, month, day, second / 3600, second / 60 % 60, second % 60).unwrap_or(
            CivilDateTime::new(
                croner::CivilDate::from_parts_unchecked(year, month, day),
                croner::CivilTime::from_parts_unchecked(0, 0, 0),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        // 1970-01-01 was a Thursday.
        Weekday::from_days_from_sunday((self.0.div_euclid(DAY) + 4).rem_euclid(7) as u32)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let day = days(civil.year(), civil.month(), civil.day());
        let second = civil.hour() * 3600 + civil.minute() * 60 + civil.second();
        Ok(Resolution::Single(Civil(day * DAY + i64::from(second))))
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(seconds).map(Civil)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(date(days(2028, 2, 29)), (2028, 2, 29));
        assert_eq!(Civil::new(2027, 3, 28, 2, 30).civil_weekday(), Weekday::Sunday);
    }

    proptest! {
        #[test]
        fn a_date_survives_the_way_there_and_back(day in -700_000i64..1_100_000) {
            let (y, m, d) = date(day);
            prop_assert_eq!(days(y, m, d), day);
        }
    }
}
