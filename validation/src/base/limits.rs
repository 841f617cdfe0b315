//! Every bound in one place, with the relations between them asserted at compile time.

/// Names of the CA that a request may be narrowed to, at most.
pub const ISSUER_DOMAINS_MAX: usize = 64;
/// Octets of a name in presentation form without the final dot (RFC 1035 §2.3.4).
pub const NAME_OCTETS_MAX: usize = 253;
/// Octets of a label (RFC 1035 §2.3.4).
pub const LABEL_OCTETS_MAX: usize = 63;
/// Labels of a name of [`NAME_OCTETS_MAX`] octets.
pub const NAME_LABELS_MAX: usize = 127;
/// Signatures of one set that are looked at.
pub const SIGNATURES_PER_SET_MAX: usize = 8;
/// Record sets of one reply that are looked at for DNSSEC.
pub const SIGNED_SETS_MAX: usize = 64;
/// Keys or delegation signers of one zone that are looked at.
pub const KEYS_PER_ZONE_MAX: usize = 16;
/// Signatures of one set that are checked: keys that share a tag make many (req B14).
pub const ATTEMPTS_PER_SET_MAX: u32 = 8;
/// Signatures one task checks in all.
pub const SIGNATURES_MAX: u32 = 256;
/// Signatures one task finds bad before it believes nothing any more.
pub const FAILED_SIGNATURES_MAX: u32 = 32;
/// Rounds of NSEC3 hashing a zone may ask for; beyond it is bogus (req B14, RFC 9276 §3.2).
pub const NSEC3_ITERATIONS_MAX: u16 = 150;
/// Rounds of NSEC3 hashing one task makes in all.
pub const NSEC3_HASHES_MAX: u32 = 40_000;
/// Questions about keys and delegations one task asks.
pub const LINKS_MAX: usize = 96;
/// How long keys and delegations above a registered domain are kept, seconds, if their TTL allows (req B18).
pub const ZONES_KEPT_SECONDS_MAX: u32 = 3600;
/// Octets of the messages kept for one zone; a zone that needs more is asked again.
pub const ZONE_KEPT_BYTES_MAX: usize = 8 * 1024;
/// Zones kept by one worker.
pub const ZONES_KEPT_MAX: usize = 4096;
/// Alias hops (CNAME or DNAME) followed within one answer (req B14).
pub const ALIAS_HOPS_MAX: usize = 16;
/// UDP payload size advertised in EDNS, octets (req B14).
pub const EDNS_PAYLOAD_BYTES: u16 = 1232;
/// Octets of a query: header, longest question, OPT record with an empty NSID option.
pub const QUERY_BYTES_MAX: usize = 12 + 255 + 4 + 11 + 4;
/// Octets of a DNS message over TCP.
pub const DNS_MESSAGE_BYTES_MAX: usize = 65_535;
/// Replies that do not match a query and are ignored before the query goes to TCP.
pub const DNS_IGNORED_REPLIES_MAX: u16 = 64;
/// Extended DNS errors kept per reply.
pub const EDE_MAX: usize = 4;
/// Octets of an extended DNS error's text that are kept.
pub const EDE_TEXT_BYTES_MAX: usize = 200;
/// Queries one check has in flight at a time.
pub const CHECK_QUERIES_IN_FLIGHT_MAX: usize = 16;
/// Lookups one check makes in all: every level of a name, and perhaps of the authorization domain name too, an alias
/// chain, two addresses a hop, and hints.
pub const CHECK_LOOKUPS_MAX: usize =
    2 * NAME_LABELS_MAX + ALIAS_HOPS_MAX + 2 * (HTTP_REDIRECTS_MAX + 1) + HINTS_MAX + 4;
/// Queries one check makes in all: each lookup may be asked twice, and so may each link of the chain of trust.
pub const CHECK_QUERIES_MAX: usize = 2 * (CHECK_LOOKUPS_MAX + LINKS_MAX);
/// Name servers of a zone that a diagnosis asks themselves.
pub const DIAGNOSED_SERVERS_MAX: usize = 4;
/// Name servers of the parent that a diagnosis asks for a delegation.
pub const DIAGNOSIS_PARENTS_MAX: usize = 2;
/// Queries of one diagnosis: NS of the zone, perhaps once more for the right zone, and of its parent; addresses of
/// the parent's servers, and their word on the delegation, perhaps twice; both addresses of each server, perhaps once more;
/// and three questions to each server, with one more over TCP.
pub const DIAGNOSIS_QUERIES_MAX: usize = 3 + 3 * DIAGNOSIS_PARENTS_MAX + (2 * 2 + 4) * DIAGNOSED_SERVERS_MAX;
/// How long one query of a diagnosis waits, milliseconds.
pub const DIAGNOSIS_TRY_MS: u32 = 1_000;
/// How long a diagnosis of a failure takes, milliseconds.
pub const DIAGNOSIS_MS_MAX: u32 = 5_000;
/// How long a diagnosis takes that may hold up a pass with a remark, milliseconds.
pub const DIAGNOSIS_REMARK_MS_MAX: u32 = 1_500;
/// Address records of a delegation that are looked at, for each server.
pub const GLUE_PER_SERVER_MAX: usize = 4;
/// Name servers of a zone that a survey asks.
pub const SURVEYED_SERVERS_MAX: usize = 13;
/// Addresses of one server that a survey asks.
pub const SURVEYED_ADDRESSES_PER_SERVER_MAX: usize = 4;
/// Addresses that a survey asks in all.
pub const SURVEYED_ADDRESSES_MAX: usize = 26;
/// Questions of a survey to one address: SOA in four ways, NS, CAA, TXT and DNSKEY.
pub const SURVEY_QUESTIONS_MAX: usize = 8;
/// Name servers of the parent that a survey asks for a delegation and its DS.
pub const SURVEY_PARENTS_MAX: usize = 2;
/// Times a survey asks in which zone a name lies: of a name that is an alias, the name above it is asked.
pub const SURVEY_CUTS_MAX: usize = 4;
/// Queries of one survey: where the zone begins; NS of the zone, and of the one above, perhaps twice; addresses of that
/// zone's servers, and their two answers each; both addresses of each server; and the questions to each address.
pub const SURVEY_QUERIES_MAX: usize = SURVEY_CUTS_MAX
    + 3
    + 4 * SURVEY_PARENTS_MAX
    + 2 * SURVEYED_SERVERS_MAX
    + SURVEY_QUESTIONS_MAX * SURVEYED_ADDRESSES_MAX;
/// Queries that a survey has in flight at a time.
pub const SURVEY_QUERIES_IN_FLIGHT_MAX: usize = 16;
/// How long one query of a survey to a name server waits before it is sent again or given up, milliseconds.
pub const SURVEY_TRY_MS: u32 = 1_000;
/// The same for one to the resolver, which may have to ask several servers in turn. Three such queries follow one another,
/// and then two to a server that is dead: with both sendings of each that is less than a task has by default.
pub const SURVEY_RESOLVER_TRY_MS: u32 = 1_500;
/// Times a query of a survey is sent over UDP: one lost packet is no silent server.
pub const SURVEY_TRANSMISSIONS: u8 = 2;
/// Records of one set that a survey keeps.
pub const SURVEY_SET_RECORDS_MAX: usize = 32;
/// Octets of record data that a survey keeps in all.
pub const SURVEY_KEPT_BYTES_MAX: usize = 32 * 1024;
/// Octets of a server's identifier that are kept (RFC 5001).
pub const NSID_BYTES_MAX: usize = 64;
/// Hint lookups after a failure at the primary.
pub const HINTS_MAX: usize = 2;
/// Address records kept of one lookup; a host needs no more, and evidence stays small.
pub const ADDRESSES_KEPT_MAX: usize = 32;
/// Addresses of one family that are tried at one host, one after the other.
pub const ADDRESSES_PER_FAMILY_MAX: usize = 2;
/// How long a server may be slow after the first octet of a response, or of a TLS handshake, milliseconds.
pub const PACE_GRACE_MS: u64 = 2_000;
/// Octets a second it must have sent on average since that first octet, once the grace is over. The head of a
/// response alone buys some seconds; an octet now and then buys none.
pub const PACE_OCTETS_PER_SECOND_MIN: u64 = 64;
/// Redirects followed (req D16).
pub const HTTP_REDIRECTS_MAX: usize = 10;
/// Octets of a response head.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a response head.
pub const HTTP_HEADERS_MAX: usize = 128;
/// Octets of a response body that are read and kept as evidence.
pub const HTTP_BODY_BYTES_MAX: usize = 512;
/// Octets of one chunk-size or trailer line.
pub const HTTP_CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Interim (1xx) responses skipped.
pub const HTTP_INTERIM_MAX: usize = 4;
/// Octets of a redirect target.
pub const URL_BYTES_MAX: usize = 2048;
/// Octets of a header value kept as evidence.
pub const HEADER_VALUE_KEPT_BYTES_MAX: usize = 256;
/// Octets a server may send until a TLS handshake has ended.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 96 * 1024;
/// Octets a server may send over TLS in all, the handshake and every record's overhead among them.
pub const TLS_BYTES_MAX: usize = 512 * 1024;
/// Octets kept of what is no TLS.
pub const TLS_FIRST_KEPT_BYTES_MAX: usize = 64;
/// Octets of a text about a TLS failure that are kept.
pub const TLS_PROBLEM_BYTES_MAX: usize = 120;
/// Octets of a certificate kept as evidence for tls-alpn-01.
pub const TLS_CERTIFICATE_KEPT_BYTES_MAX: usize = 16 * 1024;
/// How long a connection that a probe has parted with stays open for the server to take note, milliseconds.
pub const PARTING_MS: u64 = 250;
/// Octets that are taken from such a connection before it is closed early: session tickets and a farewell.
pub const PARTING_BYTES_MAX: usize = 16 * 1024;
/// Connections of a worker that stay open so; beyond, the oldest is closed early.
pub const PARTING_MAX: usize = 4096;
/// Octets of a certificate's subject that are kept.
pub const SUBJECT_KEPT_BYTES_MAX: usize = 256;
/// Attributes of a certificate's subject that are looked at.
pub const SUBJECT_PARTS_MAX: usize = 16;
/// Characters of a token. At least 128 bits in base64url make 22 (RFC 8555 §8.3).
pub const TOKEN_CHARS_MIN: usize = 22;
/// Characters of a token.
pub const TOKEN_CHARS_MAX: usize = 128;
/// Characters of a key thumbprint: SHA-256 in base64url without padding (RFC 8555 §8.1).
pub const THUMBPRINT_CHARS: usize = 43;
/// Bits of randomness a Random Value must be able to hold (TLS BR 2.3.1 §1.6.1).
pub const RANDOM_VALUE_BITS_MIN: u32 = 112;
/// Characters of a Random Value or Request Token.
pub const RANDOM_VALUE_CHARS_MAX: usize = 128;
/// Characters of a file's path below `/.well-known/pki-validation/`.
pub const FILE_CHARS_MAX: usize = 128;
/// Octets of the body that are read of a file with a Random Value.
pub const WEBSITE_BODY_BYTES_MAX: usize = 4 * 1024;
/// Characters of a request's id.
pub const REQUEST_ID_CHARS_MAX: usize = 64;
/// Characters of an account URI.
pub const ACCOUNT_URI_CHARS_MAX: usize = 512;
/// Remote perspectives of one attempt; a bit mask holds them.
pub const REMOTES_MAX: usize = 15;

const _: () = {
    assert!(HTTP_BODY_BYTES_MAX > TOKEN_CHARS_MAX + 1 + THUMBPRINT_CHARS + 64);
    assert!(QUERY_BYTES_MAX < 512);
    assert!(TLS_CERTIFICATE_KEPT_BYTES_MAX < TLS_HANDSHAKE_BYTES_MAX);
    assert!(TLS_HANDSHAKE_BYTES_MAX + HTTP_HEAD_BYTES_MAX < TLS_BYTES_MAX);
    assert!(CHECK_QUERIES_MAX + DIAGNOSIS_QUERIES_MAX + SURVEY_QUERIES_MAX < u16::MAX as usize);
    assert!(DIAGNOSIS_TRY_MS < DIAGNOSIS_REMARK_MS_MAX && DIAGNOSIS_REMARK_MS_MAX < DIAGNOSIS_MS_MAX);
    // A query over TCP follows one over UDP.
    assert!(2 * DIAGNOSIS_TRY_MS < DIAGNOSIS_MS_MAX);
    assert!(REMOTES_MAX < 16);
};
