//! Round figures for tests, measured nowhere.

use serde_json::Value;

use super::{
    demand::{Demand, Form, SAMPLE},
    measured::Measured,
    times::ServiceTimes,
};

/// Two runs of each mix, the busier one second: dns-01, http-01, tls-alpn-01, caa, refused-at-primary, slow.
pub(crate) fn measured() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/plan-measured.json")).expect("the fixture is JSON")
}

pub(crate) fn times() -> ServiceTimes {
    let measured = Measured::parse(&measured().to_string()).expect("the fixture is a measurement");
    ServiceTimes::derive(&measured).expect("the fixture is complete")
}

pub(crate) fn sample() -> Demand {
    Demand::parse(SAMPLE, Form::Toml).expect("the sample is a demand")
}
