-- +goose Up
-- Null in rows that were stored before Holdfast signed its decisions.
ALTER TABLE audit_decisions ADD COLUMN verified boolean, ADD COLUMN repeated boolean;
-- A collector of an older version knows no signatures: what it stores is not verified.
ALTER TABLE audit_decisions ALTER COLUMN verified SET DEFAULT false, ALTER COLUMN repeated SET DEFAULT false;

COMMENT ON TABLE audit_decisions IS
    'The decisions that the annotations of audit events claim, one row per event and call of a webhook. Only those that are '
    'verified are Holdfast''s: anybody who may register a webhook can write annotations under its names.';
COMMENT ON COLUMN audit_decisions.verified IS
    'Whether the record has the signature of the key that Holdfast''s webhooks share with the collector. Null: stored before there was one.';
COMMENT ON COLUMN audit_decisions.repeated IS
    'Whether the same verified decision was stored for another request within a day: one of the two is a copy.';

CREATE OR REPLACE VIEW agent_activity AS
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
    e.audit_id,
    coalesce(u.unverified, 0) AS unverified,
    coalesce(d.repeated, false) AS repeated
FROM audit_events e
LEFT JOIN LATERAL (
    SELECT
        (array_agg(x.decision ORDER BY x.strictness, x.decision_id))[1] AS decision,
        (array_agg(x.reason ORDER BY x.strictness, x.decision_id))[1]   AS reason,
        bool_or(x.dry_run)                                              AS dry_run,
        bool_or(x.repeated)                                             AS repeated,
        array_remove(array_agg(DISTINCT nullif(x.access_request, '')), NULL) AS access_requests,
        (SELECT array_agg(DISTINCT a ORDER BY a) FROM audit_decisions y, unnest(y.agents) a
          WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest AND y.verified IS NOT false) AS agents,
        (SELECT array_agg(DISTINCT r ORDER BY r) FROM audit_decisions y, unnest(y.rules) r
          WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest AND y.verified IS NOT false) AS rules,
        (SELECT array_agg(DISTINCT o ORDER BY o) FROM audit_decisions y, unnest(y.observed) o
          WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest AND y.verified IS NOT false) AS observed
    FROM (
        SELECT *, CASE decision WHEN 'Deny' THEN 0 WHEN 'Hold' THEN 1 ELSE 2 END AS strictness
        FROM audit_decisions y
        WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest AND y.verified IS NOT false
    ) x
) d ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS unverified FROM audit_decisions y
    WHERE y.stage_timestamp = e.stage_timestamp AND y.event_digest = e.event_digest AND y.verified IS false
) u ON true
WHERE e.stage IN ('ResponseComplete', 'Panic');

COMMENT ON VIEW agent_activity IS
    'One row per finished request: who did what, and what Holdfast decided (the strictest of its decisions). '
    'agent is null where no decision of a webhook names one. Decisions that are not verified count in unverified and in '
    'nothing else; repeated: a decision of it was made for another request, or stood in one before.';

CREATE OR REPLACE VIEW access_request_history AS
SELECT time, access_request, username, what, detail, api_server, audit_id
FROM (
    SELECT h.*, lag(what) OVER (PARTITION BY access_request, source ORDER BY time) AS before
    FROM (
        -- What the agent asked for and tried, and what became of it. A change under a grant is
        -- judged by both hooks, and is one row.
        SELECT DISTINCT
            'request'         AS source,
            e.stage_timestamp AS time,
            d.access_request,
            e.username,
            CASE WHEN d.reason = 'Asked' THEN 'asked' WHEN d.decision = 'Allow' THEN 'let pass' WHEN d.decision = 'Hold' THEN 'held' ELSE 'refused' END AS what,
            concat_ws(' ', e.verb, concat_ws('/',
                -- A Namespace object is said to be in itself.
                CASE WHEN e.resource <> 'namespaces' THEN nullif(e.namespace, '') END, e.resource, nullif(e.name, ''), nullif(e.subresource, '')),
                '->', e.response_code) AS detail,
            e.api_server,
            e.audit_id
        FROM audit_decisions d
        JOIN audit_events e USING (stage_timestamp, event_digest)
        WHERE (d.webhook IN ('guard.holdfast.dev', 'authorizer.holdfast.dev') OR d.reason = 'Asked') AND d.access_request <> '' AND d.verified IS NOT false AND e.stage IN ('ResponseComplete', 'Panic')
        UNION ALL
        -- What people said.
        SELECT
            'review',
            e.stage_timestamp,
            e.request_object #>> '{spec,accessRequest}',
            coalesce(e.impersonated_username, e.username),
            'review: ' || (e.request_object #>> '{spec,verdict}'),
            concat_ws(', ', nullif(e.request_object #>> '{spec,comment}', ''),
                CASE WHEN e.impersonated_username IS NOT NULL THEN 'made by ' || e.username END),
            e.api_server,
            e.audit_id
        FROM audit_events e
        WHERE e.api_group = 'holdfast.dev' AND e.resource = 'reviews' AND e.verb = 'create'
          AND e.stage = 'ResponseComplete' AND e.response_code = 201
        UNION ALL
        -- What Holdfast made of it.
        SELECT
            'phase',
            e.stage_timestamp,
            e.name,
            e.username,
            e.request_object #>> '{status,phase}',
            e.request_object #>> '{status,message}',
            e.api_server,
            e.audit_id
        FROM audit_events e
        WHERE e.api_group = 'holdfast.dev' AND e.resource = 'accessrequests' AND e.subresource = 'status' AND e.verb = 'update'
          AND e.stage = 'ResponseComplete' AND e.response_code = 200
    ) h
) h
WHERE source <> 'phase' OR what IS DISTINCT FROM before;

COMMENT ON VIEW access_request_history IS
    'The life of each AccessRequest: what the agent asked for (asked) and tried (held, let pass, refused), what people said (review: ...), and '
    'the phases it came to, with why. Select by access_request.';

-- +goose Down
DROP VIEW agent_activity;
DROP VIEW access_request_history;
ALTER TABLE audit_decisions DROP COLUMN verified, DROP COLUMN repeated;
COMMENT ON TABLE audit_decisions IS
    'The decisions that the annotations of audit events claim, one row per event and call of a webhook.';

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

CREATE VIEW access_request_history AS
SELECT time, access_request, username, what, detail, api_server, audit_id
FROM (
    SELECT h.*, lag(what) OVER (PARTITION BY access_request, source ORDER BY time) AS before
    FROM (
        -- What the agent tried, and what became of it.
        SELECT
            'request'         AS source,
            e.stage_timestamp AS time,
            d.access_request,
            e.username,
            CASE d.decision WHEN 'Allow' THEN 'let pass' WHEN 'Hold' THEN 'held' ELSE 'refused' END AS what,
            concat_ws(' ', e.verb, concat_ws('/',
                -- A Namespace object is said to be in itself.
                CASE WHEN e.resource <> 'namespaces' THEN nullif(e.namespace, '') END, e.resource, nullif(e.name, ''), nullif(e.subresource, '')),
                '->', e.response_code) AS detail,
            e.api_server,
            e.audit_id
        FROM audit_decisions d
        JOIN audit_events e USING (stage_timestamp, event_digest)
        WHERE d.webhook = 'guard.holdfast.dev' AND d.access_request <> '' AND e.stage IN ('ResponseComplete', 'Panic')
        UNION ALL
        -- What people said.
        SELECT
            'review',
            e.stage_timestamp,
            e.request_object #>> '{spec,accessRequest}',
            coalesce(e.impersonated_username, e.username),
            'review: ' || (e.request_object #>> '{spec,verdict}'),
            concat_ws(', ', nullif(e.request_object #>> '{spec,comment}', ''),
                CASE WHEN e.impersonated_username IS NOT NULL THEN 'made by ' || e.username END),
            e.api_server,
            e.audit_id
        FROM audit_events e
        WHERE e.api_group = 'holdfast.dev' AND e.resource = 'reviews' AND e.verb = 'create'
          AND e.stage = 'ResponseComplete' AND e.response_code = 201
        UNION ALL
        -- What Holdfast made of it.
        SELECT
            'phase',
            e.stage_timestamp,
            e.name,
            e.username,
            e.request_object #>> '{status,phase}',
            e.request_object #>> '{status,message}',
            e.api_server,
            e.audit_id
        FROM audit_events e
        WHERE e.api_group = 'holdfast.dev' AND e.resource = 'accessrequests' AND e.subresource = 'status' AND e.verb = 'update'
          AND e.stage = 'ResponseComplete' AND e.response_code = 200
    ) h
) h
WHERE source <> 'phase' OR what IS DISTINCT FROM before;

COMMENT ON VIEW access_request_history IS
    'The life of each AccessRequest: what the agent tried (held, let pass, refused), what people said (review: ...), and '
    'the phases it came to, with why. Select by access_request.';
