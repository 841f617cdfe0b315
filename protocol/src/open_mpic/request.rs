//! Bodies of requests, read as leniently as Open MPIC reads them.
//!
//! Members that are not known are ignored, `"3"` is taken for a number, a number is not taken for text, and words of a
//! list keep their case. Everything wrong with the shape of a body is listed, up to a bound. What the members mean is
//! decided elsewhere.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

/// Octets of a body that is read.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Issues that are listed for one body.
pub const ISSUES_MAX: usize = 50;
/// Octets of what was sent that an issue repeats; more is left out.
const INPUT_BYTES_MAX: usize = 1024;
/// Names of the CA in one request.
const DOMAINS_MAX: usize = 64;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckType {
    /// Authority under CAA.
    Caa,
    /// Control.
    Dcv,
}

/// What was asked, as it was sent, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// As sent.
    pub domain_or_ip_target: String,
    /// The caller's name for it.
    pub trace_identifier: Option<String>,
    /// How it is to be carried out; nodes are not told.
    pub orchestration: Option<Orchestration>,
    /// What is checked, and with what.
    pub check: Check,
}

impl Asked {
    /// What is checked.
    #[must_use]
    pub fn check_type(&self) -> CheckType {
        match self.check {
            Check::Caa(_) => CheckType::Caa,
            Check::Dcv(_) => CheckType::Dcv,
        }
    }
}

/// What is checked, and with what.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// Authority under CAA; none if the parameters were not sent.
    Caa(Option<CaaParameters>),
    /// Control.
    Dcv(DcvParameters),
}

/// `orchestration_parameters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Orchestration {
    /// Remotes.
    pub perspective_count: Option<i64>,
    /// How many of them must confirm.
    pub quorum_count: Option<i64>,
    /// Attempts at most.
    pub max_attempts: Option<i64>,
    /// A cohort by its number.
    pub cohort_for_single_attempt: Option<i64>,
}

/// `caa_check_parameters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaaParameters {
    /// `tls-server` or `s-mime`.
    pub certificate_type: &'static str,
    /// The names that stand for the CA.
    pub caa_domains: Option<Vec<String>>,
    /// Whether a lookup that failed may be permission.
    pub allow_lookup_failure: bool,
}

/// `dcv_check_parameters`. Fields are as in Open MPIC; those that can have one value only are left out.
#[derive(Clone, Debug, PartialEq)]
pub enum DcvParameters {
    /// `website-change`.
    WebsiteChange {
        /// Whether case counts.
        require_exact_case: bool,
        /// The value in the file.
        challenge_value: String,
        /// The file.
        http_token_path: String,
        /// Whether the first request goes over https.
        https: bool,
        /// Header fields to be sent.
        http_headers: Option<Map<String, Value>>,
        /// A pattern of the file.
        match_regex: Option<String>,
    },
    /// `dns-change`.
    DnsChange {
        /// Whether case counts.
        require_exact_case: bool,
        /// The value in the record.
        challenge_value: String,
        /// What stands before the name.
        dns_name_prefix: Option<String>,
        /// `CNAME`, `TXT` or `CAA`.
        dns_record_type: &'static str,
        /// Whether the record must hold nothing else.
        require_exact_match: bool,
    },
    /// `dns-persistent`.
    DnsPersistent {
        /// The names that stand for the CA.
        issuer_domain_names: Vec<String>,
        /// The account.
        expected_account_uri: String,
    },
    /// `acme-http-01`.
    AcmeHttp01 {
        /// The token.
        token: String,
        /// The key authorization.
        key_authorization: String,
        /// Header fields to be sent.
        http_headers: Option<Map<String, Value>>,
    },
    /// `acme-dns-01`.
    AcmeDns01 {
        /// The digest of the key authorization.
        key_authorization_hash: String,
    },
    /// `acme-tls-alpn-01`.
    AcmeTlsAlpn01 {
        /// The digest of the key authorization.
        key_authorization_hash: String,
    },
    /// `contact-email-txt` and its like.
    Contact {
        /// Which of the four.
        method: ContactMethod,
        /// The contact.
        challenge_value: String,
        /// What stands before the name; sent with CAA only.
        dns_name_prefix: Option<String>,
    },
    /// A method that Open MPIC has a name for and that is not carried out here.
    NotOffered {
        /// Its name.
        validation_method: &'static str,
    },
}

/// A contact method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactMethod {
    /// `contact-email-txt`.
    EmailTxt,
    /// `contact-email-caa`.
    EmailCaa,
    /// `contact-phone-txt`.
    PhoneTxt,
    /// `contact-phone-caa`.
    PhoneCaa,
}

impl ContactMethod {
    /// Its name in both worlds.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::EmailTxt => "contact-email-txt",
            Self::EmailCaa => "contact-email-caa",
            Self::PhoneTxt => "contact-phone-txt",
            Self::PhoneCaa => "contact-phone-caa",
        }
    }

    /// The one prefix that TXT has.
    fn txt_prefix(self) -> Option<&'static str> {
        match self {
            Self::EmailTxt => Some("_validation-contactemail"),
            Self::PhoneTxt => Some("_validation-contactphone"),
            Self::EmailCaa | Self::PhoneCaa => None,
        }
    }
}

/// Members in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Members(Vec<(&'static str, Value)>);

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl DcvParameters {
    /// The method's name in Open MPIC.
    #[must_use]
    pub fn validation_method(&self) -> &'static str {
        match self {
            Self::WebsiteChange { .. } => "website-change",
            Self::DnsChange { .. } => "dns-change",
            Self::DnsPersistent { .. } => "dns-persistent",
            Self::AcmeHttp01 { .. } => "acme-http-01",
            Self::AcmeDns01 { .. } => "acme-dns-01",
            Self::AcmeTlsAlpn01 { .. } => "acme-tls-alpn-01",
            Self::Contact { method, .. } => method.label(),
            Self::NotOffered { validation_method } => validation_method,
        }
    }

    /// The parameters as a response repeats them, every default filled in.
    #[must_use]
    pub fn echo(&self) -> Members {
        let exact_case = match self {
            Self::WebsiteChange { require_exact_case, .. } | Self::DnsChange { require_exact_case, .. } => {
                *require_exact_case
            }
            Self::AcmeHttp01 { .. } | Self::AcmeDns01 { .. } => true,
            Self::DnsPersistent { .. }
            | Self::AcmeTlsAlpn01 { .. }
            | Self::Contact { .. }
            | Self::NotOffered { .. } => false,
        };
        let mut members =
            vec![("validation_method", self.validation_method().into()), ("require_exact_case", exact_case.into())];
        let headers = |headers: &Option<Map<String, Value>>| headers.clone().map_or(Value::Null, Value::Object);
        members.extend(match self {
            Self::WebsiteChange { challenge_value, http_token_path, https, http_headers, match_regex, .. } => vec![
                ("challenge_value", challenge_value.as_str().into()),
                ("http_token_path", http_token_path.as_str().into()),
                ("url_scheme", if *https { "https" } else { "http" }.into()),
                ("http_headers", headers(http_headers)),
                ("match_regex", match_regex.clone().into()),
            ],
            Self::DnsChange { challenge_value, dns_name_prefix, dns_record_type, require_exact_match, .. } => vec![
                ("challenge_value", challenge_value.as_str().into()),
                ("dns_name_prefix", dns_name_prefix.clone().into()),
                ("dns_record_type", (*dns_record_type).into()),
                ("require_exact_match", (*require_exact_match).into()),
            ],
            Self::DnsPersistent { issuer_domain_names, expected_account_uri } => vec![
                ("dns_record_type", "TXT".into()),
                ("dns_name_prefix", "_validation-persist".into()),
                ("issuer_domain_names", issuer_domain_names.clone().into()),
                ("expected_account_uri", expected_account_uri.as_str().into()),
            ],
            Self::AcmeHttp01 { token, key_authorization, http_headers } => vec![
                ("token", token.as_str().into()),
                ("key_authorization", key_authorization.as_str().into()),
                ("http_headers", headers(http_headers)),
            ],
            Self::AcmeDns01 { key_authorization_hash } => vec![
                ("key_authorization_hash", key_authorization_hash.as_str().into()),
                ("dns_record_type", "TXT".into()),
                ("dns_name_prefix", "_acme-challenge".into()),
            ],
            Self::AcmeTlsAlpn01 { key_authorization_hash } => {
                vec![("key_authorization_hash", key_authorization_hash.as_str().into())]
            }
            Self::Contact { method, challenge_value, dns_name_prefix } => vec![
                ("challenge_value", challenge_value.as_str().into()),
                ("dns_name_prefix", method.txt_prefix().map_or_else(|| dns_name_prefix.clone().into(), Value::from)),
                ("dns_record_type", if method.txt_prefix().is_some() { "TXT" } else { "CAA" }.into()),
            ],
            Self::NotOffered { .. } => Vec::new(),
        });
        Members(members)
    }
}

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Issue {
    /// Its shape.
    Shape(Box<ShapeIssue>),
    /// What it asks for.
    Meaning {
        /// Which rule.
        issue_type: &'static str,
        /// Why.
        message: String,
    },
}

impl Issue {
    /// What a body asks for is refused.
    #[must_use]
    pub fn meaning(issue_type: &'static str, message: impl Into<String>) -> Self {
        Self::Meaning { issue_type, message: message.into() }
    }
}

/// What is wrong with the shape of a body, in pydantic's terms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShapeIssue {
    /// Kind of error.
    pub r#type: &'static str,
    /// Where: names of members and places in arrays.
    pub loc: Vec<Value>,
    /// In words.
    pub msg: String,
    /// What was sent there, or around it; none if that is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What else there is to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

/// Which endpoint a body was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/mpic`.
    Mpic,
    /// `/caa` of a node.
    Caa,
    /// `/dcv` of a node.
    Dcv,
}

/// Reads a body.
///
/// # Errors
/// Everything that is wrong with its shape, up to [`ISSUES_MAX`].
pub fn read(body: &[u8], endpoint: Endpoint) -> Result<Asked, Vec<Issue>> {
    let mut reader = Reader { issues: Vec::new() };
    let top = Place::default();
    if body.len() > BODY_BYTES_MAX {
        let msg = format!("Invalid JSON: more than {BODY_BYTES_MAX} octets");
        reader.issue("json_invalid", &top, msg, None, None);
        return Err(reader.issues);
    }
    let asked = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(object)) => reader.asked(&object, endpoint),
        Ok(other) => {
            reader.issue("model_type", &top, "Input should be an object", Some(&other), None);
            None
        }
        Err(error) => {
            let ctx = serde_json::json!({ "error": error.to_string() });
            let sent = String::from_utf8(body.to_vec()).ok().map(Value::from);
            reader.issue("json_invalid", &top, format!("Invalid JSON: {error}"), sent.as_ref(), Some(ctx));
            None
        }
    };
    match asked {
        Some(asked) if reader.issues.is_empty() => Ok(asked),
        _ => Err(reader.issues),
    }
}

/// Where in a body.
#[derive(Clone, Default)]
struct Place(Vec<Value>);

impl Place {
    fn at(&self, step: impl Into<Value>) -> Self {
        let mut place = self.clone();
        place.0.push(step.into());
        place
    }
}

/// Reads members and notes what is wrong. A function that notes an issue gives none, or some value that is not used.
struct Reader {
    issues: Vec<Issue>,
}

type Object = Map<String, Value>;

impl Reader {
    fn issue(
        &mut self,
        r#type: &'static str,
        place: &Place,
        msg: impl Into<String>,
        input: Option<&Value>,
        ctx: Option<Value>,
    ) {
        if self.issues.len() < ISSUES_MAX {
            let fits = |value: &&Value| serde_json::to_vec(value).is_ok_and(|json| json.len() <= INPUT_BYTES_MAX);
            let input = input.filter(fits).cloned();
            let msg = msg.into();
            self.issues.push(Issue::Shape(Box::new(ShapeIssue { r#type, loc: place.0.clone(), msg, input, ctx })));
        }
    }

    fn missing(&mut self, object: &Object, place: &Place) {
        self.issue("missing", place, "Field required", Some(&Value::Object(object.clone())), None);
    }

    fn asked(&mut self, object: &Object, endpoint: Endpoint) -> Option<Asked> {
        let top = Place::default();
        let target = self.string(object, &top, "domain_or_ip_target");
        let orchestration = match endpoint {
            Endpoint::Mpic => self.orchestration(object, &top),
            Endpoint::Caa | Endpoint::Dcv => None,
        };
        let trace_identifier = self.optional_string(object, &top, "trace_identifier");
        let check_type = match endpoint {
            Endpoint::Mpic => self.check_type(object, &top),
            Endpoint::Caa => CheckType::Caa,
            Endpoint::Dcv => CheckType::Dcv,
        };
        let check = match check_type {
            CheckType::Caa => Check::Caa(self.caa(object, &top)),
            CheckType::Dcv => Check::Dcv(self.dcv(object, &top)?),
        };
        Some(Asked { domain_or_ip_target: target?, trace_identifier, orchestration, check })
    }

    /// A type that is absent is guessed from what else is there.
    fn check_type(&mut self, object: &Object, place: &Place) -> CheckType {
        let guessed = if object.get("dcv_check_parameters").is_some_and(|p| !p.is_null()) {
            CheckType::Dcv
        } else {
            CheckType::Caa
        };
        match object.get("check_type") {
            None => guessed,
            Some(Value::String(text)) if text == "caa" => CheckType::Caa,
            Some(Value::String(text)) if text == "dcv" => CheckType::Dcv,
            Some(other) => {
                self.choice("literal_error", &place.at("check_type"), &["caa", "dcv"], other);
                guessed
            }
        }
    }

    fn orchestration(&mut self, object: &Object, place: &Place) -> Option<Orchestration> {
        let name = "orchestration_parameters";
        let inner = self.optional_object(object, place, name)?;
        let place = place.at(name);
        Some(Orchestration {
            perspective_count: self.optional_int(inner, &place, "perspective_count"),
            quorum_count: self.optional_int(inner, &place, "quorum_count"),
            max_attempts: self.optional_int(inner, &place, "max_attempts"),
            cohort_for_single_attempt: self.optional_int(inner, &place, "cohort_for_single_attempt"),
        })
    }

    fn caa(&mut self, object: &Object, place: &Place) -> Option<CaaParameters> {
        let name = "caa_check_parameters";
        let inner = self.optional_object(object, place, name)?;
        let place = place.at(name);
        Some(CaaParameters {
            certificate_type: self.word(inner, &place, "certificate_type", &["tls-server", "s-mime"]),
            caa_domains: self.optional_strings(inner, &place, "caa_domains"),
            allow_lookup_failure: self.flag(inner, &place, "allow_lookup_failure", false),
        })
    }

    fn dcv(&mut self, object: &Object, place: &Place) -> Option<DcvParameters> {
        let name = "dcv_check_parameters";
        let place_of = place.at(name);
        let inner = match object.get(name) {
            Some(Value::Object(inner)) => inner,
            Some(other) => {
                let msg = "Input should be a valid dictionary or object to extract fields from";
                self.issue("model_attributes_type", &place_of, msg, Some(other), None);
                return None;
            }
            None => {
                self.missing(object, &place_of);
                return None;
            }
        };
        let Some(tag) = inner.get("validation_method") else {
            let msg = "Unable to extract tag using discriminator 'validation_method'";
            let ctx = serde_json::json!({ "discriminator": "'validation_method'" });
            self.issue("union_tag_not_found", &place_of, msg, Some(&Value::Object(inner.clone())), Some(ctx));
            return None;
        };
        let place = tag.as_str().map_or_else(|| place_of.clone(), |tag| place_of.at(tag));
        match tag.as_str() {
            Some("website-change") => self.website_change(inner, &place),
            Some("dns-change") => self.dns_change(inner, &place),
            Some("dns-persistent") => self.dns_persistent(inner, &place),
            Some("acme-http-01") => {
                self.fixed(inner, &place, "require_exact_case", true);
                let (token, key) =
                    (self.string(inner, &place, "token"), self.string(inner, &place, "key_authorization"));
                let http_headers = self.optional_object(inner, &place, "http_headers").cloned();
                Some(DcvParameters::AcmeHttp01 { token: token?, key_authorization: key?, http_headers })
            }
            Some("acme-dns-01") => {
                self.fixed(inner, &place, "require_exact_case", true);
                self.fixed(inner, &place, "dns_record_type", "TXT");
                self.fixed(inner, &place, "dns_name_prefix", "_acme-challenge");
                let key_authorization_hash = self.string(inner, &place, "key_authorization_hash")?;
                Some(DcvParameters::AcmeDns01 { key_authorization_hash })
            }
            Some("acme-tls-alpn-01") => {
                self.fixed(inner, &place, "require_exact_case", false);
                let key_authorization_hash = self.string(inner, &place, "key_authorization_hash")?;
                Some(DcvParameters::AcmeTlsAlpn01 { key_authorization_hash })
            }
            Some("contact-email-txt") => self.contact(inner, &place, ContactMethod::EmailTxt),
            Some("contact-email-caa") => self.contact(inner, &place, ContactMethod::EmailCaa),
            Some("contact-phone-txt") => self.contact(inner, &place, ContactMethod::PhoneTxt),
            Some("contact-phone-caa") => self.contact(inner, &place, ContactMethod::PhoneCaa),
            Some("ip-address") => Some(DcvParameters::NotOffered { validation_method: "ip-address" }),
            Some("reverse-address-lookup") => {
                Some(DcvParameters::NotOffered { validation_method: "reverse-address-lookup" })
            }
            Some("dns-account-01") => Some(DcvParameters::NotOffered { validation_method: "dns-account-01" }),
            _ => {
                self.unknown_tag(&place_of, tag, inner);
                None
            }
        }
    }

    fn unknown_tag(&mut self, place: &Place, tag: &Value, inner: &Object) {
        const TAGS: [&str; 12] = [
            "website-change",
            "dns-change",
            "dns-persistent",
            "acme-http-01",
            "acme-dns-01",
            "acme-tls-alpn-01",
            "contact-email-txt",
            "contact-email-caa",
            "contact-phone-txt",
            "contact-phone-caa",
            "ip-address",
            "reverse-address-lookup",
        ];
        let expected = TAGS.map(|tag| format!("'{tag}'")).join(", ");
        let shown: String = tag.as_str().map_or_else(|| tag.to_string(), str::to_owned).chars().take(100).collect();
        let msg = format!(
            "Input tag '{shown}' found using 'validation_method' does not match any of the expected tags: {expected}"
        );
        let ctx = serde_json::json!(
            { "discriminator": "'validation_method'", "tag": shown, "expected_tags": expected }
        );
        self.issue("union_tag_invalid", place, msg, Some(&Value::Object(inner.clone())), Some(ctx));
    }

    fn website_change(&mut self, inner: &Object, place: &Place) -> Option<DcvParameters> {
        let require_exact_case = self.flag(inner, place, "require_exact_case", true);
        let challenge_value = self.string(inner, place, "challenge_value");
        let http_token_path = self.string(inner, place, "http_token_path");
        // Null is said to be lawful, and means the default.
        let is_null = inner.get("url_scheme").is_some_and(Value::is_null);
        let https = !is_null && self.word(inner, place, "url_scheme", &["http", "https"]) == "https";
        let http_headers = self.optional_object(inner, place, "http_headers").cloned();
        let match_regex = self.optional_string(inner, place, "match_regex");
        Some(DcvParameters::WebsiteChange {
            require_exact_case,
            challenge_value: challenge_value?,
            http_token_path: http_token_path?,
            https,
            http_headers,
            match_regex,
        })
    }

    fn dns_change(&mut self, inner: &Object, place: &Place) -> Option<DcvParameters> {
        let require_exact_case = self.flag(inner, place, "require_exact_case", true);
        let challenge_value = self.string(inner, place, "challenge_value");
        let dns_name_prefix = self.optional_string(inner, place, "dns_name_prefix");
        let name = "dns_record_type";
        let dns_record_type = match inner.contains_key(name) {
            true => Some(self.word(inner, place, name, &["CNAME", "TXT", "CAA"])),
            false => {
                self.missing(inner, &place.at(name));
                None
            }
        };
        let require_exact_match = self.flag(inner, place, "require_exact_match", false);
        let dns_record_type = dns_record_type?;
        Some(DcvParameters::DnsChange {
            require_exact_case: require_exact_case && dns_record_type == "TXT",
            challenge_value: challenge_value?,
            dns_name_prefix,
            dns_record_type,
            require_exact_match,
        })
    }

    fn dns_persistent(&mut self, inner: &Object, place: &Place) -> Option<DcvParameters> {
        self.fixed(inner, place, "require_exact_case", false);
        self.fixed(inner, place, "dns_record_type", "TXT");
        self.fixed(inner, place, "dns_name_prefix", "_validation-persist");
        let name = "issuer_domain_names";
        let names = match inner.get(name) {
            Some(Value::Null) => {
                self.issue("list_type", &place.at(name), "Input should be a valid array", Some(&Value::Null), None);
                None
            }
            Some(_) => self.optional_strings(inner, place, name),
            None => {
                self.missing(inner, &place.at(name));
                None
            }
        };
        if let Some(names) = names.as_ref().filter(|names| names.is_empty() || names.iter().any(String::is_empty)) {
            let msg = "Value error, a non-empty list of domain names is wanted";
            self.issue("value_error", &place.at(name), msg, Some(&names.clone().into()), None);
        }
        let expected_account_uri = self.string(inner, place, "expected_account_uri");
        Some(DcvParameters::DnsPersistent { issuer_domain_names: names?, expected_account_uri: expected_account_uri? })
    }

    fn contact(&mut self, inner: &Object, place: &Place, method: ContactMethod) -> Option<DcvParameters> {
        self.fixed(inner, place, "require_exact_case", false);
        let challenge_value = self.string(inner, place, "challenge_value");
        let dns_name_prefix = match method.txt_prefix() {
            Some(prefix) => {
                self.fixed(inner, place, "dns_name_prefix", prefix);
                self.fixed(inner, place, "dns_record_type", "TXT");
                None
            }
            None => {
                self.fixed(inner, place, "dns_record_type", "CAA");
                self.optional_string(inner, place, "dns_name_prefix")
            }
        };
        Some(DcvParameters::Contact { method, challenge_value: challenge_value?, dns_name_prefix })
    }

    fn string(&mut self, object: &Object, place: &Place, name: &str) -> Option<String> {
        match object.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                self.issue("string_type", &place.at(name), "Input should be a valid string", Some(other), None);
                None
            }
            None => {
                self.missing(object, &place.at(name));
                None
            }
        }
    }

    fn optional_string(&mut self, object: &Object, place: &Place, name: &str) -> Option<String> {
        object.get(name).filter(|value| !value.is_null())?;
        self.string(object, place, name)
    }

    fn optional_object<'a>(&mut self, object: &'a Object, place: &Place, name: &str) -> Option<&'a Object> {
        match object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Object(inner)) => Some(inner),
            Some(other) => {
                self.issue("model_type", &place.at(name), "Input should be an object", Some(other), None);
                None
            }
        }
    }

    fn optional_strings(&mut self, object: &Object, place: &Place, name: &str) -> Option<Vec<String>> {
        let place = place.at(name);
        let items = match object.get(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.issue("list_type", &place, "Input should be a valid array", Some(other), None);
                return None;
            }
        };
        if items.len() > DOMAINS_MAX {
            let msg = format!("List should have at most {DOMAINS_MAX} items, not {}", items.len());
            self.issue("too_long", &place, msg, None, None);
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => {
                    let msg = "Input should be a valid string";
                    self.issue("string_type", &place.at(index), msg, Some(other), None);
                }
            }
        }
        Some(texts)
    }

    fn optional_int(&mut self, object: &Object, place: &Place, name: &str) -> Option<i64> {
        let value = object.get(name).filter(|value| !value.is_null())?;
        match int(value) {
            Ok(number) => Some(number),
            Err((kind, msg)) => {
                self.issue(kind, &place.at(name), msg, Some(value), None);
                None
            }
        }
    }

    fn flag(&mut self, object: &Object, place: &Place, name: &str, default: bool) -> bool {
        let Some(value) = object.get(name) else { return default };
        match flag(value) {
            Some(flag) => flag,
            None => {
                let (kind, msg) = match value {
                    Value::String(_) => ("bool_parsing", "Input should be a valid boolean, unable to interpret input"),
                    _ => ("bool_type", "Input should be a valid boolean"),
                };
                self.issue(kind, &place.at(name), msg, Some(value), None);
                default
            }
        }
    }

    /// One of some words; the first if absent.
    fn word(&mut self, object: &Object, place: &Place, name: &str, choices: &[&'static str]) -> &'static str {
        let default = choices.first().copied().unwrap_or_default();
        let Some(value) = object.get(name) else { return default };
        match choices.iter().find(|choice| value.as_str() == Some(choice)) {
            Some(choice) => choice,
            None => {
                self.choice("enum", &place.at(name), choices, value);
                default
            }
        }
    }

    fn choice(&mut self, kind: &'static str, place: &Place, choices: &[&str], given: &Value) {
        let quoted: Vec<String> = choices.iter().map(|choice| format!("'{choice}'")).collect();
        let expected = match quoted.as_slice() {
            [front @ .., last] if !front.is_empty() => format!("{} or {last}", front.join(", ")),
            _ => quoted.concat(),
        };
        let ctx = serde_json::json!({ "expected": expected });
        self.issue(kind, place, format!("Input should be {expected}"), Some(given), Some(ctx));
    }

    /// A member that may be sent with one value only.
    fn fixed(&mut self, object: &Object, place: &Place, name: &str, only: impl Into<Value>) {
        let only = only.into();
        let Some(value) = object.get(name).filter(|value| **value != only) else { return };
        let expected = match &only {
            Value::String(text) => format!("'{text}'"),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            other => other.to_string(),
        };
        let ctx = serde_json::json!({ "expected": expected });
        self.issue("literal_error", &place.at(name), format!("Input should be {expected}"), Some(value), Some(ctx));
    }
}

/// A whole number, as pydantic takes one. What is beyond 64 bits stays as large as can be.
fn int(value: &Value) -> Result<i64, (&'static str, &'static str)> {
    let unparsable = ("int_parsing", "Input should be a valid integer, unable to parse string as an integer");
    match value {
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Ok(number),
            (None, Some(number)) if number.fract() == 0.0 => Ok(number as i64),
            _ => Err(("int_from_float", "Input should be a valid integer, got a number with a fractional part")),
        },
        Value::String(text) => int_of_text(text).ok_or(unparsable),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(("int_type", "Input should be a valid integer")),
    }
}

fn int_of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let whole = match digits.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => digits,
    };
    // Digits may stand in groups.
    let is_group = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    if !whole.split('_').all(is_group) {
        return None;
    }
    let number = whole.replace('_', "").parse().unwrap_or(i64::MAX);
    Some(if negative { -number } else { number })
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ok_whole_numbers() {
        for (sent, number) in [
            (json!(3), 3),
            (json!(-3), -3),
            (json!(3.0), 3),
            (json!(true), 1),
            (json!("3"), 3),
            (json!(" +3 "), 3),
            (json!("-3"), -3),
            (json!("3.00"), 3),
            (json!("007"), 7),
            (json!("1_000"), 1000),
            (json!(u64::MAX), i64::MAX),
            (json!(1e300), i64::MAX),
            (json!(-1e300), i64::MIN),
            (json!("99999999999999999999"), i64::MAX),
            (json!("-99999999999999999999"), -i64::MAX),
        ] {
            assert_eq!(int(&sent), Ok(number), "{sent}");
        }
    }

    #[test]
    fn err_what_is_no_whole_number() {
        for (sent, kind) in [
            (json!(3.5), "int_from_float"),
            (json!("3.5"), "int_parsing"),
            (json!(""), "int_parsing"),
            (json!("-"), "int_parsing"),
            (json!("+-3"), "int_parsing"),
            (json!(".0"), "int_parsing"),
            (json!("3."), "int_parsing"),
            (json!("1e3"), "int_parsing"),
            (json!("0x3"), "int_parsing"),
            (json!("_3"), "int_parsing"),
            (json!("3__0"), "int_parsing"),
            (json!([]), "int_type"),
            (json!({}), "int_type"),
            (Value::Null, "int_type"),
        ] {
            assert_eq!(int(&sent).map_err(|(kind, _)| kind), Err(kind), "{sent}");
        }
    }

    #[test]
    fn flags_come_in_many_words() {
        for (sent, wanted) in [
            (json!(true), Some(true)),
            (json!("Yes"), Some(true)),
            (json!("on"), Some(true)),
            (json!(1), Some(true)),
            (json!(false), Some(false)),
            (json!("F"), Some(false)),
            (json!(0.0), Some(false)),
            (json!("0"), Some(false)),
            (json!(2), None),
            (json!(""), None),
            (json!("maybe"), None),
            (Value::Null, None),
            (json!([]), None),
        ] {
            assert_eq!(flag(&sent), wanted, "{sent}");
        }
    }

    #[test]
    fn endpoints_of_a_node_know_no_orchestration_and_no_type() {
        let body = br#"{"check_type":5,"domain_or_ip_target":"a.example","orchestration_parameters":7}"#;
        let asked = read(body, Endpoint::Caa).expect("what is not known is ignored");
        assert_eq!((asked.check_type(), asked.orchestration), (CheckType::Caa, None));
        assert_eq!(read(body, Endpoint::Mpic).map_err(|issues| issues.len()), Err(2));
    }
}
