//! The kinds of request, how often each occurs, and how each must end.
//!
//! One table. About 55 % of all requests pass; kinds that cost a client seconds of waiting are fewer than 3 %.
//!
//! Some methods end by the Baseline Requirements (`validation/src/check/dcv/methods.toml`), and their kinds with them:
//! contact-phone-caa, contact-phone-txt and reverse lookup on 2027-03-15, contact-email-caa and contact-email-txt on
//! 2028-03-15.

use serde::Serialize;

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Corroborated.
    Pass,
    /// Checked, and not to be issued.
    Fail,
    /// Not checked: the request itself is bad.
    Refused,
}

/// RFC 8555 §6.7 names, as far as the laboratory provokes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Problem {
    /// What was found is not the challenge's answer.
    Unauthorized,
    /// A DNS lookup failed.
    Dns,
    /// No usable HTTP response, or no connection for a TLS handshake.
    Connection,
    /// A TLS handshake failed.
    Tls,
    /// CAA forbids.
    Caa,
    /// The request cannot be read.
    Malformed,
    /// The identifier is not one a certificate may hold.
    RejectedIdentifier,
}

/// Where the verdict came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DecidedBy {
    /// The primary perspective alone.
    Primary,
    /// The count of remote perspectives.
    Quorum,
    /// Parsing of the request.
    Request,
}

/// How a request must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The problem type of a fail or refusal.
    pub problem: Option<Problem>,
    /// Where it is decided.
    pub decided_by: DecidedBy,
}

const PASS: Outcome = Outcome { verdict: Verdict::Pass, problem: None, decided_by: DecidedBy::Quorum };

const fn fail(problem: Problem, decided_by: DecidedBy) -> Outcome {
    Outcome { verdict: Verdict::Fail, problem: Some(problem), decided_by }
}

const fn refused(problem: Problem) -> Outcome {
    Outcome { verdict: Verdict::Refused, problem: Some(problem), decided_by: DecidedBy::Request }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Control by a file on a web server, and CAA.
    Http01,
    /// Control by a TXT record, and CAA.
    Dns01,
    /// Control by a TXT record at a name of the account's own, and CAA.
    DnsAccount01,
    /// Control by a TXT record that names the account and stays, and CAA.
    DnsPersist01,
    /// Control by a certificate shown in a TLS handshake, and CAA.
    TlsAlpn01,
    /// Control by a value in a record, and CAA.
    DnsChange,
    /// Control by a value in a file on a web server, and CAA.
    WebsiteChange,
    /// A mail address in a CAA property, and CAA.
    ContactEmailCaa,
    /// A mail address in a TXT record, and CAA.
    ContactEmailTxt,
    /// A telephone number in a CAA property, and CAA.
    ContactPhoneCaa,
    /// A telephone number in a TXT record, and CAA.
    ContactPhoneTxt,
    /// CAA alone.
    Caa,
}

impl Method {
    /// As written in a request.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::DnsAccount01 => "dns-account-01",
            Self::DnsPersist01 => "dns-persist-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::DnsChange => "dns-change",
            Self::WebsiteChange => "website-change",
            Self::ContactEmailCaa => "contact-email-caa",
            Self::ContactEmailTxt => "contact-email-txt",
            Self::ContactPhoneCaa => "contact-phone-caa",
            Self::ContactPhoneTxt => "contact-phone-txt",
            Self::Caa => "caa",
        }
    }
}

/// Whether a correct client must wait for something that does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Well under a second.
    Quick,
    /// May cost a deadline or a retransmission.
    Slow,
}

macro_rules! kinds {
    ($($variant:ident $slug:literal $weight:literal $method:ident $pace:ident $outcome:expr, $doc:literal;)*) => {
        /// A kind of request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $variant,)*
        }

        impl Kind {
            /// All of them, in the table's order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in host names and in the expected file.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// How many of [`WEIGHTS_TOTAL`] requests are of this kind.
            #[must_use]
            pub const fn weight(self) -> u64 {
                match self { $(Self::$variant => $weight,)* }
            }

            /// What it asks for.
            #[must_use]
            pub fn method(self) -> Method {
                match self { $(Self::$variant => Method::$method,)* }
            }

            /// Whether it costs a client waiting time.
            #[must_use]
            pub const fn pace(self) -> Pace {
                match self { $(Self::$variant => Pace::$pace,)* }
            }

            /// How it must end.
            #[must_use]
            pub fn outcome(self) -> Outcome {
                use {DecidedBy::*, Problem::*};
                match self { $(Self::$variant => $outcome,)* }
            }
        }

        const BY_SLOT_UNTIL: &[(u64, Kind)] = &[$((Kind::$variant.weight(), Kind::$variant),)*];
    };
}

kinds! {
    HttpOk "http-ok" 253 Http01 Quick PASS, "One IPv4 address, right body.";
    HttpDual "http-dual" 120 Http01 Quick PASS, "A and AAAA, right body at both.";
    HttpWhitespace "http-whitespace" 30 Http01 Quick PASS, "Spaces and CRLF after the right body.";
    HttpChunked "http-chunked" 40 Http01 Quick PASS, "Chunked body in odd segments.";
    HttpRedirectPath "http-redirect-path" 50 Http01 Quick PASS, "302 to another path of the same host.";
    HttpRedirectName "http-redirect-name" 40 Http01 Quick PASS, "308 to another name at another address.";
    HttpRedirect10 "http-redirect-10" 16 Http01 Quick PASS, "Ten redirects: as many as are allowed.";
    HttpRedirectHttps "http-redirect-https" 16 Http01 Quick PASS, "301 to https, whose certificate proves nothing.";
    HttpDrip "http-drip" 10 Http01 Quick PASS, "The body arrives in drops within 300 ms.";
    HttpUlaSkipped "http-ula-skipped" 20 Http01 Quick PASS, "AAAA is fc00::1, never to be connected to; A is good.";
    HttpIp "http-ip" 20 Http01 Quick PASS, "The identifier is an IPv4 address.";
    HttpCname "http-cname" 50 Http01 Quick PASS, "The host is an alias.";
    HttpCname5 "http-cname-5" 20 Http01 Quick PASS, "A chain of five aliases.";
    HttpAaaaServfail "http-aaaa-servfail" 10 Http01 Quick PASS, "AAAA fails, A is good.";
    HttpWrongBody "http-wrong-body" 60 Http01 Quick fail(Unauthorized, Primary), "Another key authorization.";
    Http404Echo "http-404-echo" 60 Http01 Quick fail(Unauthorized, Primary), "404 page that prints the URL.";
    Http200Echo "http-200-echo" 30 Http01 Quick fail(Unauthorized, Primary), "200 page that prints the path.";
    Http403 "http-403" 30 Http01 Quick fail(Unauthorized, Primary), "A challenge page of a filter.";
    HttpEmpty "http-empty" 20 Http01 Quick fail(Unauthorized, Primary), "200 and nothing.";
    HttpHuge "http-huge" 6 Http01 Quick fail(Unauthorized, Primary), "One megabyte of something else.";
    HttpRedirect11 "http-redirect-11" 12 Http01 Quick fail(Connection, Primary), "Eleven redirects: one too many.";
    HttpRedirectPort "http-redirect-port" 16 Http01 Quick fail(Connection, Primary), "Redirect to port 9443.";
    Http303 "http-303" 12 Http01 Quick fail(Unauthorized, Primary), "303 See Other is not followed, so its status is the answer.";
    HttpRedirectFtp "http-redirect-ftp" 12 Http01 Quick fail(Connection, Primary), "Redirect to an ftp URL.";
    HttpRedirectLoop "http-redirect-loop" 12 Http01 Quick fail(Connection, Primary), "Redirects to itself.";
    HttpRefused "http-refused" 50 Http01 Quick fail(Connection, Primary), "Nothing listens.";
    HttpReset "http-reset" 20 Http01 Quick fail(Connection, Primary), "The connection is reset after the request.";
    HttpBlackHole "http-black-hole" 9 Http01 Slow fail(Connection, Primary), "SYNs go unanswered.";
    HttpPrivate "http-private" 20 Http01 Quick fail(Dns, Primary), "A is 10.1.2.3, never to be connected to.";
    HttpSlowHead "http-slow-head" 9 Http01 Slow fail(Connection, Primary), "The head never comes.";
    HttpHeadLarge "http-head-large" 6 Http01 Quick fail(Connection, Primary), "200 kB of header lines.";
    HttpGarbage "http-garbage" 12 Http01 Quick fail(Connection, Primary), "No status line.";
    HttpNxdomain "http-nxdomain" 70 Http01 Quick fail(Dns, Primary), "The name does not exist.";
    HttpNodata "http-nodata" 30 Http01 Quick fail(Dns, Primary), "Neither A nor AAAA.";
    HttpServfail "http-servfail" 30 Http01 Quick fail(Dns, Primary), "A and AAAA fail.";
    HttpCnameLoop "http-cname-loop" 12 Http01 Quick fail(Dns, Primary), "The aliases go round.";
    DnsOk "dns-ok" 120 Dns01 Quick PASS, "One TXT record, right.";
    DnsCname "dns-cname" 50 Dns01 Quick PASS, "The challenge name is an alias.";
    DnsDname "dns-dname" 6 Dns01 Quick PASS, "The challenge name's alias lies below a DNAME.";
    DnsTwo "dns-two" 20 Dns01 Quick PASS, "Two TXT records, the second right.";
    DnsStrings "dns-strings" 12 Dns01 Quick PASS, "The value in two character-strings.";
    DnsTcp60 "dns-tcp-60" 12 Dns01 Quick PASS, "Sixty old values and the right one: truncated, then TCP.";
    Dns0x20 "dns-0x20" 6 Dns01 Slow PASS, "The UDP answer is in lower case; TCP is right.";
    DnsSpoof "dns-spoof" 12 Dns01 Quick PASS, "Wrong id, wrong question and garbage come before the right answer.";
    DnsCut "dns-cut" 6 Dns01 Slow PASS, "The UDP answer is cut within a record, TC clear; TCP is right.";
    DnsWildcard "dns-wildcard" 40 Dns01 Quick PASS, "A wildcard identifier.";
    DnsWrong "dns-wrong" 30 Dns01 Quick fail(Unauthorized, Primary), "Another value.";
    DnsQuotes "dns-quotes" 10 Dns01 Quick fail(Unauthorized, Primary), "The value within quotation marks.";
    DnsSpace "dns-space" 10 Dns01 Quick fail(Unauthorized, Primary), "A space after the value.";
    DnsCase "dns-case" 10 Dns01 Quick fail(Unauthorized, Primary), "The value in the wrong case.";
    DnsNxdomain "dns-nxdomain" 40 Dns01 Quick fail(Unauthorized, Primary), "The challenge name does not exist.";
    DnsNodata "dns-nodata" 20 Dns01 Quick fail(Unauthorized, Primary), "No TXT at the challenge name.";
    DnsServfail "dns-servfail" 20 Dns01 Quick fail(Dns, Primary), "SERVFAIL.";
    DnsRefused "dns-refused" 12 Dns01 Quick fail(Dns, Primary), "REFUSED.";
    DnsSilent "dns-silent" 9 Dns01 Slow fail(Dns, Primary), "No answer over UDP or TCP.";
    DnsTcClosed "dns-tc-closed" 8 Dns01 Quick fail(Dns, Primary), "Truncated, and TCP is closed without an answer.";
    AccountOk "account-ok" 24 DnsAccount01 Quick PASS, "The value at the account's own label.";
    AccountWildcard "account-wildcard" 10 DnsAccount01 Quick PASS, "The same for a wildcard identifier.";
    AccountOther "account-other" 12 DnsAccount01 Quick fail(Unauthorized, Primary), "The value at another account's label.";
    PersistOk "persist-ok" 30 DnsPersist01 Quick PASS, "One record, of ours and for the account.";
    PersistTwo "persist-two" 12 DnsPersist01 Quick PASS, "Two records of ours, the first expired.";
    PersistWildcard "persist-wildcard" 12 DnsPersist01 Quick PASS, "A wildcard identifier and policy=wildcard.";
    PersistExpired "persist-expired" 10 DnsPersist01 Quick fail(Unauthorized, Primary), "persistUntil has passed.";
    PersistOther "persist-other" 10 DnsPersist01 Quick fail(Unauthorized, Primary), "The record names another CA.";
    PersistAccount "persist-account" 10 DnsPersist01 Quick fail(Unauthorized, Primary), "The record names another account.";
    PersistNoPolicy "persist-no-policy" 10 DnsPersist01 Quick fail(Unauthorized, Primary), "A wildcard identifier without policy=wildcard.";
    PersistMalformed "persist-malformed" 10 DnsPersist01 Quick fail(Malformed, Primary), "accounturi twice.";
    CaaNone "caa-none" 60 Caa Quick PASS, "No CAA anywhere.";
    CaaIssue "caa-issue" 40 Caa Quick PASS, "issue ca.example.";
    CaaLeafOverParent "caa-leaf-over-parent" 12 Caa Quick PASS, "The leaf permits, its parent forbids.";
    CaaWildPlain "caa-wild-plain" 10 Caa Quick PASS, "issue ca.example and issuewild \";\" for a plain name.";
    CaaNoncritical "caa-noncritical" 10 Caa Quick PASS, "An unknown tag that is not critical.";
    CaaAccountRight "caa-account-right" 10 Caa Quick PASS, "accounturi is ours.";
    CaaValidationRight "caa-validation-right" 8 Caa Quick PASS, "validationmethods lists the one relied on.";
    CaaIodef "caa-iodef" 10 Caa Quick PASS, "Only iodef.";
    CaaAliasParent "caa-alias-parent" 10 Caa Quick PASS, "The parent of the alias target forbids: not searched.";
    CaaParentServfail "caa-parent-servfail" 8 Caa Quick PASS, "The leaf permits, its parent fails.";
    CaaOther "caa-other" 30 Caa Quick fail(Caa, Primary), "issue other.example.";
    CaaNobody "caa-nobody" 12 Caa Quick fail(Caa, Primary), "issue \";\".";
    CaaInherited "caa-inherited" 20 Caa Quick fail(Caa, Primary), "The parent forbids.";
    CaaWildForbidden "caa-wild-forbidden" 10 Caa Quick fail(Caa, Primary), "issue ca.example and issuewild \";\" for a wildcard.";
    CaaCritical128 "caa-critical-128" 8 Caa Quick fail(Caa, Primary), "Unknown tag, flags 128.";
    CaaCritical130 "caa-critical-130" 6 Caa Quick fail(Caa, Primary), "Unknown tag, flags 130.";
    CaaUpperTag "caa-upper-tag" 8 Caa Quick fail(Caa, Primary), "ISSUE other.example.";
    CaaQuotes "caa-quotes" 8 Caa Quick fail(Caa, Primary), "Quotation marks within the value.";
    CaaTrailingDot "caa-trailing-dot" 8 Caa Quick fail(Caa, Primary), "ca.example with a final dot.";
    CaaAccountWrong "caa-account-wrong" 8 Caa Quick fail(Caa, Primary), "accounturi is another account.";
    CaaValidationWrong "caa-validation-wrong" 8 Caa Quick fail(Caa, Primary), "validationmethods lists another one.";
    CaaAliasTarget "caa-alias-target" 10 Caa Quick fail(Caa, Primary), "The alias target forbids.";
    Caa1001 "caa-1001" 4 Caa Quick fail(Caa, Primary), "1001 records for others: truncated, then TCP.";
    CaaCnameLoop "caa-cname-loop" 8 Caa Quick fail(Dns, Primary), "The aliases go round.";
    CaaServfail "caa-servfail" 10 Caa Quick fail(Dns, Primary), "The leaf fails.";
    CaaSilent "caa-silent" 9 Caa Slow fail(Dns, Primary), "No answer over UDP or TCP.";
    JointCaaOther "joint-caa-other" 15 Http01 Quick fail(Caa, Primary), "Control is proven, CAA forbids.";
    JointCaaIssue "joint-caa-issue" 20 Dns01 Quick PASS, "Control is proven, CAA permits.";
    MpHijack1 "mp-hijack-1" 16 Http01 Quick PASS, "One remote is led to the attacker.";
    MpGeodns "mp-geodns" 20 Http01 Quick PASS, "Perspectives get different addresses, all good.";
    MpCaaDiffers1 "mp-caa-differs-1" 12 Http01 Quick PASS, "CAA forbids as seen by one remote.";
    Mp4031 "mp-403-1" 16 Http01 Quick PASS, "The web server turns one remote away.";
    MpServfail1 "mp-servfail-1" 12 Http01 Quick PASS, "One remote's lookups fail.";
    MpSilent1 "mp-silent-1" 9 Http01 Slow PASS, "One remote's lookups go unanswered.";
    MpLag1 "mp-lag-1" 16 Dns01 Quick PASS, "One remote sees the old TXT.";
    MpPersist1 "mp-persist-1" 12 DnsPersist01 Quick PASS, "One remote sees a record that has expired; the others see two different ones.";
    MpCaaBytes1 "mp-caa-bytes-1" 10 Caa Quick PASS, "One remote sees different CAA that permits too.";
    MpHijack2 "mp-hijack-2" 16 Http01 Quick fail(Unauthorized, Quorum), "Two remotes are led to the attacker.";
    MpHijackPrimary "mp-hijack-primary" 12 Http01 Quick fail(Unauthorized, Primary), "The primary is led to the attacker.";
    Mp4033 "mp-403-3" 12 Http01 Quick fail(Unauthorized, Quorum), "The web server turns three remotes away.";
    MpMixed2 "mp-mixed-2" 8 Http01 Quick fail(Unauthorized, Quorum), "One remote fails control, another one CAA.";
    MpLag3 "mp-lag-3" 12 Dns01 Quick fail(Unauthorized, Quorum), "Three remotes see the old TXT.";
    MpPersist2 "mp-persist-2" 8 DnsPersist01 Quick fail(Unauthorized, Quorum), "Two remotes see a record that has expired.";
    MpCaaDiffers2 "mp-caa-differs-2" 12 Caa Quick fail(Caa, Quorum), "CAA forbids as seen by two remotes.";
    AlpnOk "alpn-ok" 40 TlsAlpn01 Quick PASS, "The certificate answers the challenge.";
    AlpnIp "alpn-ip" 12 TlsAlpn01 Quick PASS, "The same for an IPv4 address.";
    AlpnDual "alpn-dual" 8 TlsAlpn01 Quick PASS, "A and AAAA, the right certificate at both.";
    AlpnWrong "alpn-wrong" 10 TlsAlpn01 Quick fail(Unauthorized, Primary), "The digest of another key authorization.";
    AlpnTwoNames "alpn-two-names" 8 TlsAlpn01 Quick fail(Unauthorized, Primary), "Two names in the certificate.";
    AlpnOtherName "alpn-other-name" 8 TlsAlpn01 Quick fail(Unauthorized, Primary), "The name of another host in the certificate.";
    AlpnNotCritical "alpn-not-critical" 8 TlsAlpn01 Quick fail(Unauthorized, Primary), "The acmeIdentifier extension is not critical.";
    AlpnNone "alpn-none" 8 TlsAlpn01 Quick fail(Unauthorized, Primary), "The server selects no application protocol.";
    AlpnAlert "alpn-alert" 8 TlsAlpn01 Quick fail(Tls, Primary), "The server knows http/1.1 alone and says so in an alert.";
    AlpnPlain "alpn-plain" 8 TlsAlpn01 Quick fail(Tls, Primary), "HTTP without TLS on port 443.";
    AlpnRefused "alpn-refused" 8 TlsAlpn01 Quick fail(Connection, Primary), "Nothing listens.";
    AlpnNever "alpn-never" 4 TlsAlpn01 Slow fail(Connection, Primary), "The handshake never ends.";
    MpAlpn1 "mp-alpn-1" 8 TlsAlpn01 Quick PASS, "One remote is led to the attacker.";
    MpAlpn2 "mp-alpn-2" 8 TlsAlpn01 Quick fail(Unauthorized, Quorum), "Two remotes are led to the attacker.";
    ChangeTxt "change-txt" 20 DnsChange Quick PASS, "The value in TXT of the name itself.";
    ChangePrefix "change-prefix" 12 DnsChange Quick PASS, "The value in TXT below a prefix label.";
    ChangeCname "change-cname" 12 DnsChange Quick PASS, "The value as a label of a CNAME's target.";
    ChangeCaa "change-caa" 12 DnsChange Quick PASS, "The value as a parameter of a CAA property.";
    ChangeWrong "change-wrong" 8 DnsChange Quick fail(Unauthorized, Primary), "Another value.";
    ChangeQuotes "change-quotes" 8 DnsChange Quick fail(Unauthorized, Primary), "The value within quotation marks.";
    ChangeCnameWrong "change-cname-wrong" 6 DnsChange Quick fail(Unauthorized, Primary), "The value is only a part of a label.";
    ChangeCaaWrong "change-caa-wrong" 6 DnsChange Quick fail(Unauthorized, Primary), "The value is the name of the issuer's parameter.";
    ChangeParent "change-parent" 8 DnsChange Quick fail(Unauthorized, Primary), "The value only at the parent.";
    MpChange1 "mp-change-1" 8 DnsChange Quick PASS, "One remote sees another value.";
    MpChange2 "mp-change-2" 8 DnsChange Quick fail(Unauthorized, Quorum), "Two remotes see another value.";
    WebOk "web-ok" 16 WebsiteChange Quick PASS, "The value in a file.";
    WebHttps "web-https" 12 WebsiteChange Quick PASS, "The value in a file that is served over https alone.";
    WebWithin "web-within" 8 WebsiteChange Quick PASS, "The value within other text.";
    WebTouching "web-touching" 8 WebsiteChange Quick fail(Unauthorized, Primary), "A letter touches the value.";
    Web404 "web-404" 8 WebsiteChange Quick fail(Unauthorized, Primary), "404 page that holds the value.";
    WebValueInUrl "web-value-in-url" 8 WebsiteChange Quick fail(Unauthorized, Primary), "Redirect to a URL that holds the value.";
    MpWeb2 "mp-web-2" 8 WebsiteChange Quick fail(Unauthorized, Quorum), "Two remotes are led to the attacker.";
    ContactEmailCaa "contact-email-caa" 10 ContactEmailCaa Quick PASS, "The mail address in CAA of the name.";
    ContactEmailClimb "contact-email-climb" 8 ContactEmailCaa Quick PASS, "The mail address in CAA of the parent.";
    ContactEmailTxt "contact-email-txt" 10 ContactEmailTxt Quick PASS, "The mail address in TXT.";
    ContactPhoneCaa "contact-phone-caa" 8 ContactPhoneCaa Quick PASS, "The telephone number in CAA of the name.";
    ContactPhoneTxt "contact-phone-txt" 8 ContactPhoneTxt Quick PASS, "The telephone number in TXT.";
    ContactOtherCaa "contact-other-caa" 6 ContactEmailCaa Quick fail(Unauthorized, Primary), "Another mail address in CAA.";
    ContactHidden "contact-hidden" 6 ContactEmailCaa Quick fail(Unauthorized, Primary), "The mail address at the parent, below which CAA holds none.";
    ContactOtherTxt "contact-other-txt" 6 ContactPhoneTxt Quick fail(Unauthorized, Primary), "Another telephone number in TXT.";
    MpContact2 "mp-contact-2" 8 ContactEmailTxt Quick fail(Unauthorized, Quorum), "Two remotes see another mail address.";
    AdnPruned "adn-pruned" 12 Dns01 Quick PASS, "Control of the parent.";
    AdnAlias "adn-alias" 8 Dns01 Quick PASS, "Control of the name that the host is an alias of.";
    AdnAliasChange "adn-alias-change" 8 DnsChange Quick PASS, "The same by a value in TXT, after two aliases.";
    AdnAliasBelow "adn-alias-below" 8 Dns01 Quick PASS, "The alias leads to a name below the one that is controlled.";
    AdnElsewhere "adn-elsewhere" 8 Dns01 Quick fail(Unauthorized, Primary), "The alias leads elsewhere.";
    AdnNoAlias "adn-no-alias" 6 Dns01 Quick fail(Unauthorized, Primary), "The host is no alias.";
    MpAlias2 "mp-alias-2" 8 Dns01 Quick fail(Unauthorized, Quorum), "The alias leads elsewhere as seen by two remotes.";
    ReverseOk "reverse-ok" 8 Http01 Quick PASS, "An address, by control of its name.";
    ReverseOther "reverse-other" 6 Http01 Quick fail(Unauthorized, Primary), "The address has another name.";
    ReverseNone "reverse-none" 6 Http01 Quick fail(Unauthorized, Primary), "The address has no name.";
    MailPermit "mail-permit" 12 Dns01 Quick PASS, "A mailbox; issuemail ca.example.";
    MailIssue "mail-issue" 6 Dns01 Quick PASS, "A mailbox; issue \";\" is not about it.";
    MailForbid "mail-forbid" 8 Dns01 Quick fail(Caa, Primary), "A mailbox; issuemail other.example.";
    MailHost "mail-host" 8 Dns01 Quick PASS, "A mailbox, by control of the host that MX names.";
    MailHostOther "mail-host-other" 6 Dns01 Quick fail(Unauthorized, Primary), "The host is not among those that MX names.";
    MailHostAlias "mail-host-alias" 6 Dns01 Quick fail(Unauthorized, Primary), "The host that MX names is an alias.";
    BadRetired "bad-retired" 1 Http01 Quick refused(Malformed), "A method that may not be used any more.";
    BadFile "bad-file" 1 WebsiteChange Quick refused(Malformed), "The value in the file's name.";
    BadPruned "bad-pruned" 1 Http01 Quick refused(Malformed), "Control of the parent, with http-01.";
    BadAlias "bad-alias" 1 Dns01 Quick refused(Malformed), "An alias of a wildcard.";
    BadSyntax "bad-syntax" 1 Http01 Quick refused(Malformed), "The line breaks off.";
    BadMissing "bad-missing" 1 Http01 Quick refused(Malformed), "No key_authorization.";
    BadWildcard "bad-wildcard" 1 Http01 Quick refused(Malformed), "A wildcard with http-01.";
    BadMethod "bad-method" 1 Http01 Quick refused(Malformed), "An unknown method.";
    BadToken "bad-token" 1 Http01 Quick refused(Malformed), "A token with characters outside base64url.";
    BadDuplicate "bad-duplicate" 1 Http01 Quick refused(Malformed), "The id of an earlier line.";
    BadULabel "bad-u-label" 1 Http01 Quick refused(RejectedIdentifier), "A U-label.";
    BadLongLabel "bad-long-label" 1 Http01 Quick refused(RejectedIdentifier), "A label of 64.";
    BadUnderscore "bad-underscore" 1 Http01 Quick refused(RejectedIdentifier), "An underscore, with http-01.";
    BadTrailingDot "bad-trailing-dot" 1 Http01 Quick refused(RejectedIdentifier), "A name with its final dot.";
}

/// The sum of all weights: so many requests in a row hold each kind exactly as often as its weight says.
pub const WEIGHTS_TOTAL: u64 = {
    let (mut total, mut at) = (0, 0);
    while at < Kind::ALL.len() {
        total += Kind::ALL[at].weight();
        at += 1;
    }
    total
};

/// The share of slow requests, before anyone asks for fewer.
pub const SLOW_SHARE: f64 = {
    let (mut slow, mut at) = (0, 0);
    while at < Kind::ALL.len() {
        if let Pace::Slow = Kind::ALL[at].pace() {
            slow += Kind::ALL[at].weight();
        }
        at += 1;
    }
    slow as f64 / WEIGHTS_TOTAL as f64
};

const SLOTS: [Kind; WEIGHTS_TOTAL as usize] = {
    let mut slots = [Kind::HttpOk; WEIGHTS_TOTAL as usize];
    let (mut slot, mut at) = (0, 0);
    while at < BY_SLOT_UNTIL.len() {
        let (weight, kind) = BY_SLOT_UNTIL[at];
        let mut n = 0;
        while n < weight {
            slots[slot] = kind;
            slot += 1;
            n += 1;
        }
        at += 1;
    }
    slots
};

static BY_SLOT: [Kind; WEIGHTS_TOTAL as usize] = SLOTS;

impl Kind {
    /// The kind in a slot; slots beyond the last start over.
    #[must_use]
    pub fn in_slot(slot: u64) -> Self {
        BY_SLOT[(slot % WEIGHTS_TOTAL) as usize]
    }

    /// Whether the request line itself is bad.
    #[must_use]
    pub fn is_bad_line(self) -> bool {
        self.outcome().verdict == Verdict::Refused
    }

    /// Another problem type that is as right as the expected one: remotes failed for different reasons.
    #[must_use]
    pub fn also_problem(self) -> Option<Problem> {
        (self == Self::MpMixed2).then_some(Problem::Caa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_as_promised() {
        let passing: u64 = Kind::ALL.iter().filter(|k| k.outcome().verdict == Verdict::Pass).map(|k| k.weight()).sum();
        let share = passing as f64 / WEIGHTS_TOTAL as f64;
        assert!((0.53..0.58).contains(&share), "{share}");
        const { assert!(SLOW_SHARE <= 0.03) };
        assert!(Kind::ALL.len() >= 35);
    }

    #[test]
    fn ok_every_slug_is_a_part_of_a_label() {
        for kind in Kind::ALL {
            assert!(format!("h0000000-{}", kind.slug()).len() < 63);
            assert!(kind.slug().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
