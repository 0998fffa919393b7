-- +goose Up
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
            concat_ws(' ', e.verb, concat_ws('/', nullif(e.namespace, ''), e.resource, nullif(e.name, ''), nullif(e.subresource, '')),
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

-- +goose Down
DROP VIEW access_request_history;
