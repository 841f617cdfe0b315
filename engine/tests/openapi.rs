//! The description of the API is that of the API: fields and paths, read from what is served and from what is written.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::BTreeSet;

use parallax_engine::{bulk::ResultLine, serve::rest::OPENAPI};
use parallax_validation::{
    explain::{Blame, Retry},
    problem::ProblemKind,
    request::{RawRequest, Restrictions},
};
use serde::Serialize;
use serde_json::Value;

fn description() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

fn properties(schema: &str) -> BTreeSet<String> {
    keys(&description()["components"]["schemas"][schema]["properties"])
}

fn fields(value: impl Serialize) -> BTreeSet<String> {
    keys(&serde_json::to_value(value).unwrap())
}

fn some() -> Option<String> {
    Some("x".to_owned())
}

/// Written out, so that a new field does not compile until it is here.
fn restrictions() -> Restrictions {
    Restrictions {
        issuer_domains: vec!["ca.example".to_owned()],
        non_corroborations_max: Some(0),
        lookup_failure_forbids: true,
        dry_run: true,
    }
}

#[test]
fn ok_a_request_has_the_fields_that_are_described() {
    let request = RawRequest {
        id: some(),
        identifier: "x".to_owned(),
        method: "x".to_owned(),
        token: some(),
        key_authorization: some(),
        key_authorization_digest: some(),
        account_uri: some(),
        account: some(),
        random_value: some(),
        record_type: some(),
        prefix_label: some(),
        within: Some(true),
        file: some(),
        scheme: some(),
        contact: some(),
        authorization_domain: some(),
        reverse_name: some(),
        mail_host: some(),
        caa: Some(true),
        relied_on_method: some(),
        certificate_type: some(),
        sibling_digests: vec!["x".to_owned()],
        restrictions: restrictions(),
    };
    assert_eq!(properties("Request"), fields(request));
    assert_eq!(properties("Restrictions"), fields(restrictions()));
    let required = &description()["components"]["schemas"]["Request"]["required"];
    let least = RawRequest { identifier: "x".to_owned(), method: "x".to_owned(), ..RawRequest::default() };
    let required: BTreeSet<String> = serde_json::from_value(required.clone()).unwrap();
    assert_eq!(required, fields(least), "what is always there is what is required");
}

#[test]
fn ok_an_answer_has_the_fields_that_are_described() {
    let line = ResultLine {
        id: some(),
        line: Some(1),
        verdict: "fail".to_owned(),
        identifier: some(),
        method: some(),
        problem: Some(ProblemKind::Caa),
        decided_by: "primary".to_owned(),
        quorum: some(),
        message: "x".to_owned(),
        blame: Some(Blame::Policy),
        retry: Some(Retry::Fix),
        warnings: vec!["x".to_owned()],
        checked: vec!["caa".to_owned()],
        started: Some("2026-12-15T00:00:00Z".parse().unwrap()),
        attempt: some(),
        request: Some(String::new()),
    };
    let mut told = fields(line);
    // What the API tells beside the line.
    assert!(told.insert("problem_document".to_owned()));
    assert_eq!(properties("Answer"), told);
}

#[test]
fn ok_the_paths_are_those_that_are_served() {
    let source = include_str!("../src/serve/rest.rs");
    let mut served = BTreeSet::new();
    let mut verbs = BTreeSet::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, rest) = route.split_once('"').unwrap();
        let verb = rest.trim_start_matches(", ").split('(').next().unwrap();
        served.insert(path.to_owned());
        verbs.insert((path.to_owned(), verb.to_owned()));
    }
    let described = description()["paths"].clone();
    assert!(!served.is_empty());
    assert_eq!(keys(&described), served);
    let described: BTreeSet<_> = keys(&described)
        .into_iter()
        .flat_map(|path| keys(&described[&path]).into_iter().map(move |verb| (path.clone(), verb)).collect::<Vec<_>>())
        .collect();
    assert_eq!(described, verbs);
}

#[test]
fn ok_every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = description();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    let schemas = keys(&document["components"]["schemas"]);
    let named: BTreeSet<_> = found.iter().filter_map(|name| name.rsplit('/').next()).map(str::to_owned).collect();
    assert_eq!(named, schemas, "every schema is used");
}
