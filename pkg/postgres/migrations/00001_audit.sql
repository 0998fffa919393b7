-- +goose Up
CREATE TABLE audit_events (
    stage_timestamp            timestamptz NOT NULL,
    event_digest               bytea       NOT NULL,
    api_server                 text        NOT NULL,
    audit_id                   text        NOT NULL,
    stage                      text        NOT NULL,
    level                      text        NOT NULL,
    request_received_timestamp timestamptz,
    received_at                timestamptz NOT NULL,
    verb                       text        NOT NULL,
    request_uri                text        NOT NULL,
    username                   text        NOT NULL,
    user_uid                   text        NOT NULL,
    user_groups                text[]      NOT NULL,
    user_extra                 jsonb,
    impersonated_username      text,
    impersonated_user_uid      text,
    impersonated_user_groups   text[],
    impersonated_user_extra    jsonb,
    impersonation_constraint   text,
    source_ips                 text[]      NOT NULL,
    user_agent                 text        NOT NULL,
    api_group                  text,
    api_version                text,
    resource                   text,
    subresource                text,
    namespace                  text,
    name                       text,
    object_uid                 text,
    object_resource_version    text,
    response_code              integer,
    response_status            text,
    response_reason            text,
    response_message           text,
    response_details           jsonb,
    annotations                jsonb,
    request_object             jsonb,
    response_object            jsonb,
    redaction_key              text        NOT NULL,
    redacted_values            integer     NOT NULL,
    removed                    text[]      NOT NULL,
    body_digest                text,
    overlong                   jsonb,
    PRIMARY KEY (stage_timestamp, event_digest)
) PARTITION BY RANGE (stage_timestamp);

COMMENT ON TABLE audit_events IS
    'Every audit event of the API servers, after redaction, once. One partition a day (UTC). '
    'In text and jsonb, U+2400 introduces what Postgres cannot hold: U+2400 "0" is NUL.';
COMMENT ON COLUMN audit_events.event_digest IS 'SHA-256 of what makes the event the same event when it comes again.';
COMMENT ON COLUMN audit_events.received_at IS 'When the event became durable in the stream.';
COMMENT ON COLUMN audit_events.removed IS 'Which bodies redaction took out whole, and why.';
COMMENT ON COLUMN audit_events.body_digest IS 'Keyed digest of both bodies before redaction.';
COMMENT ON COLUMN audit_events.overlong IS 'The whole of columns that were cut to fit into an index.';

CREATE INDEX audit_events_username_idx ON audit_events (username, stage_timestamp);
CREATE INDEX audit_events_object_idx ON audit_events (resource, namespace, name, stage_timestamp);
CREATE INDEX audit_events_audit_id_idx ON audit_events (audit_id);

CREATE TABLE audit_decisions (
    stage_timestamp timestamptz NOT NULL,
    event_digest    bytea       NOT NULL,
    webhook         text        NOT NULL,
    decision_id     text        NOT NULL,
    api_server      text        NOT NULL,
    audit_id        text        NOT NULL,
    stage           text        NOT NULL,
    decision        text        NOT NULL,
    reason          text        NOT NULL,
    agents          text[]      NOT NULL,
    rules           text[]      NOT NULL,
    observed        text[]      NOT NULL,
    access_request  text        NOT NULL,
    dry_run         boolean     NOT NULL,
    truncated       boolean     NOT NULL,
    PRIMARY KEY (stage_timestamp, event_digest, webhook, decision_id)
) PARTITION BY RANGE (stage_timestamp);

COMMENT ON TABLE audit_decisions IS
    'The decisions that the annotations of audit events claim, one row per event and call of a webhook.';

CREATE INDEX audit_decisions_decision_id_idx ON audit_decisions (decision_id);

CREATE TABLE quarantine (
    id          text        PRIMARY KEY,
    received_at timestamptz NOT NULL,
    api_server  text        NOT NULL,
    reason      text        NOT NULL,
    digest      text        NOT NULL,
    length      bigint      NOT NULL,
    prefix      bytea,
    event       bytea
);

COMMENT ON TABLE quarantine IS 'What came instead of an event, and events that have no place in the tables.';
COMMENT ON COLUMN quarantine.digest IS 'Keyed digest of the whole.';
COMMENT ON COLUMN quarantine.prefix IS 'The beginning, with everything masked but structure.';
COMMENT ON COLUMN quarantine.event IS 'The whole event after redaction, as JSON; null where it could not be read.';

CREATE INDEX quarantine_received_at_idx ON quarantine (received_at);

CREATE VIEW agent_activity AS
SELECT
    e.stage_timestamp AS time,
    d.agents[1]       AS agent,
    e.username,
    e.verb,
    CASE
        WHEN e.resource IS NULL THEN split_part(e.request_uri, '?', 1)
        ELSE concat_ws('/',
            -- A Namespace object is said to be in itself.
            CASE WHEN e.resource <> 'namespaces' OR e.api_group <> '' THEN nullif(e.namespace, '') END,
            concat_ws('.', e.resource, nullif(e.api_group, '')),
            nullif(e.name, ''),
            nullif(e.subresource, ''))
    END               AS object,
    d.decision,
    d.rules,
    e.response_code,
    d.reason,
    d.agents,
    d.observed,
    d.access_requests,
    d.dry_run,
    e.impersonated_username,
    e.api_server,
    e.audit_id
FROM audit_events e
LEFT JOIN LATERAL (
    SELECT
        (array_agg(x.decision ORDER BY x.strictness, x.decision_id))[1] AS decision,
        (array_agg(x.reason ORDER BY x.strictness, x.decision_id))[1]   AS reason,
        bool_or(x.dry_run)                                              AS dry_run,
        array_remove(array_agg(DISTINCT nullif(x.access_request, '')), NULL) AS access_requests,
        (SELECT array_agg(DISTINCT a ORDER BY a) FROM audit_decisions y, unnest(y.agents) a
          WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest) AS agents,
        (SELECT array_agg(DISTINCT r ORDER BY r) FROM audit_decisions y, unnest(y.rules) r
          WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest) AS rules,
        (SELECT array_agg(DISTINCT o ORDER BY o) FROM audit_decisions y, unnest(y.observed) o
          WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest) AS observed
    FROM (
        SELECT *, CASE decision WHEN 'Deny' THEN 0 WHEN 'Hold' THEN 1 ELSE 2 END AS strictness
        FROM audit_decisions y
        WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest
    ) x
) d ON true
WHERE e.stage IN ('ResponseComplete', 'Panic');

COMMENT ON VIEW agent_activity IS
    'One row per finished request: who did what, and what Holdfast decided (the strictest of its decisions). '
    'agent is null where no decision of a webhook names one.';

-- +goose Down
DROP VIEW agent_activity;
DROP TABLE quarantine;
DROP TABLE audit_decisions;
DROP TABLE audit_events;
