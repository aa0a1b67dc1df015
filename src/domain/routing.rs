//! Whom an incident is told to, and by which rule.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use watchbell_contract::Severity;

use super::hold::HoldReason;
use super::monitor::MonitorRow;
use super::notification::Hold;
use super::recipients::{People, Recipients};
use super::rules::{Route, Rules};
use super::selector::Subject;

/// A recipient, and what chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// An e-mail address, or the name of a channel.
    pub recipient: String,
    /// For people: `people_to_notify`, `route 3`, `admins`.
    pub rule: String,
    /// Set where a route waits: told then, if the incident is still open.
    pub hold: Option<Hold>,
}

/// The monitor whose people are chosen.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What its row says of people.
    pub people: &'a Recipients,
    /// What everybody's rules say.
    pub rules: &'a Rules,
    /// The monitor's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The monitor's kind.
    pub kind: &'a str,
    /// The monitor's name.
    pub name: &'a str,
}

impl<'a> Question<'a> {
    /// The question of a row as it is written. `labels` are [`MonitorRow::labels`].
    pub fn of_row(
        row: &'a MonitorRow,
        people: &'a Recipients,
        labels: &'a BTreeMap<String, String>,
        rules: &'a Rules,
    ) -> Self {
        Self { people, rules, labels, kind: &row.kind, name: &row.name }
    }
}

impl Question<'_> {
    /// Everybody whom an alert of this severity goes to, each once: first who is told at once, then who is told later.
    /// `opened_at` is what `after_minutes` counts from.
    pub fn of_alert(&self, severity: Severity, opened_at: DateTime<Utc>) -> Vec<Chosen> {
        let mut chosen = self.at_once(&[severity]);
        for route in self.routes(severity).filter(|route| route.is_escalation()) {
            let hold = Hold { until: opened_at + route.after, reason: HoldReason::Escalation(route.id) };
            add(&mut chosen, &route.recipients, || format!("route {}", route.id), Some(&hold));
        }
        chosen
    }

    /// Everybody whom a reminder goes to: the present people of these severities, and of those who were told already
    /// whoever a route still names, however late it was to tell them.
    pub fn of_reminder(&self, severities: &[Severity], told: &[String]) -> Vec<Chosen> {
        let mut chosen = self.at_once(severities);
        for route in severities.iter().flat_map(|severity| self.routes(*severity)) {
            let told: Vec<String> = route.recipients.iter().filter(|name| told.contains(name)).cloned().collect();
            add(&mut chosen, &told, || format!("route {}", route.id), None);
        }
        chosen
    }

    /// Everybody who would be told at once.
    pub fn at_once(&self, severities: &[Severity]) -> Vec<Chosen> {
        let mut chosen = Vec::new();
        match &self.people.people {
            People::Nobody => return chosen,
            People::Listed(listed) => {
                let rule = if self.people.is_fallback { "admins" } else { "people_to_notify" };
                add(&mut chosen, listed, || rule.to_owned(), None);
            }
            People::ByRoutes => {}
        }
        for route in severities.iter().flat_map(|severity| self.routes(*severity)) {
            if !route.is_escalation() {
                add(&mut chosen, &route.recipients, || format!("route {}", route.id), None);
            }
        }
        chosen
    }

    fn routes(&self, severity: Severity) -> impl Iterator<Item = &Route> {
        let is_open = self.people.people != People::Nobody;
        let subject = Subject { labels: self.labels, kind: self.kind, name: self.name, severity };
        self.rules.routes.iter().filter(move |route| is_open && route.leads(&subject))
    }
}

fn add(chosen: &mut Vec<Chosen>, names: &[String], rule: impl Fn() -> String, hold: Option<&Hold>) {
    for name in names {
        if !chosen.iter().any(|already| &already.recipient == name) {
            chosen.push(Chosen { recipient: name.clone(), rule: rule(), hold: hold.cloned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;
    use watchbell_contract::Severity;

    use super::{Chosen, Question};
    use crate::domain::hold::HoldReason;
    use crate::domain::recipients::Recipients;
    use crate::domain::rules::{RouteRow, RuleRows, Rules};

    fn route(id: i64, severity: Option<Severity>, selector: &str, recipients: &str, after_minutes: u32) -> RouteRow {
        RouteRow {
            id,
            severity,
            selector: Some(selector.to_owned()),
            recipients: recipients.to_owned(),
            after_minutes,
            unless_acknowledged: false,
            is_active: true,
            config_error: None,
        }
    }

    fn rules() -> Rules {
        let routes = vec![
            route(1, None, "", r#"["all@x.test"]"#, 0),
            route(2, Some(Severity::Critical), "", r#"["duty@x.test", "all@x.test"]"#, 0),
            route(3, Some(Severity::Warning), "team=shop", r#"["shop@x.test"]"#, 0),
            route(4, Some(Severity::Critical), "", r#"["boss@x.test", "duty@x.test"]"#, 15),
            route(5, Some(Severity::Warning), "team=other", r#"["other@x.test"]"#, 0),
            RouteRow { is_active: false, ..route(6, None, "", r#"["off@x.test"]"#, 0) },
        ];
        Rules::read(&RuleRows { routes, ..RuleRows::default() }, Tz::UTC)
    }

    fn ask<T>(people: Option<&str>, answer: impl Fn(&Question<'_>) -> T) -> T {
        let admins = ["admin@x.test".to_owned()];
        let people = Recipients::read(people, &admins, &BTreeMap::new());
        let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        answer(&Question { people: &people, rules: &rules(), labels: &labels, kind: "http", name: "Orders" })
    }

    fn opened_at() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// `recipient: rule`, and `later` where it waits.
    fn shown(chosen: Vec<Chosen>) -> Vec<String> {
        let later = |chosen: &Chosen| if chosen.hold.is_some() { " later" } else { "" };
        chosen.iter().map(|chosen| format!("{}: {}{}", chosen.recipient, chosen.rule, later(chosen))).collect()
    }

    #[test]
    fn routes_add_to_the_row_by_severity_and_selector_each_recipient_once() {
        let row = Some(r#"["ops@x.test", "all@x.test"]"#);
        let warning = ask(row, |question| question.of_alert(Severity::Warning, opened_at()));
        assert_eq!(
            shown(warning),
            ["ops@x.test: people_to_notify", "all@x.test: people_to_notify", "shop@x.test: route 3"]
        );
        let critical = ask(None, |question| question.of_alert(Severity::Critical, opened_at()));
        let expected = ["all@x.test: route 1", "duty@x.test: route 2", "boss@x.test: route 4 later"];
        assert_eq!(shown(critical.clone()), expected, "who is told at once is not told later as well");
        let hold = critical[2].hold.clone().unwrap();
        assert_eq!((hold.until, hold.reason), (opened_at() + TimeDelta::minutes(15), HoldReason::Escalation(4)));
    }

    #[test]
    fn an_empty_list_silences_the_routes_too() {
        for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
            assert_eq!(ask(Some("[]"), |question| question.of_alert(severity, opened_at())), []);
            let told = ["boss@x.test".to_owned()];
            assert_eq!(ask(Some("[]"), |question| question.of_reminder(&[severity], &told)), []);
        }
    }

    #[test]
    fn where_all_recipients_are_faulty_the_admins_stand_in_for_them_beside_the_routes() {
        let chosen = ask(Some(r#"["nobody-at-all"]"#), |question| question.of_alert(Severity::Info, opened_at()));
        assert_eq!(shown(chosen), ["admin@x.test: admins", "all@x.test: route 1"]);
    }

    #[test]
    fn a_reminder_goes_to_whom_a_route_told_late_and_to_both_severities() {
        let ask = |told: &[String]| {
            shown(ask(None, |question| question.of_reminder(&[Severity::Critical, Severity::Warning], told)))
        };
        assert_eq!(ask(&[]), ["all@x.test: route 1", "duty@x.test: route 2", "shop@x.test: route 3"]);
        assert_eq!(ask(&["boss@x.test".to_owned()])[3], "boss@x.test: route 4");
        assert_eq!(ask(&["gone@x.test".to_owned()]).len(), 3, "no route names them any more");
    }
}
