-- +goose Up
CREATE VIEW reused_audit_ids AS
SELECT
    api_server,
    audit_id,
    count(*)                                       AS requests,
    min(request_received_timestamp)                AS first,
    max(request_received_timestamp)                AS last,
    array_agg(DISTINCT username ORDER BY username) AS usernames
FROM (
    -- The stages of one request have all of this in common.
    SELECT DISTINCT api_server, audit_id, request_received_timestamp, verb, request_uri, username, source_ips
    FROM audit_events
) requests
GROUP BY api_server, audit_id
HAVING count(*) > 1;

COMMENT ON VIEW reused_audit_ids IS
    'Audit IDs under which an API server has more than one request. It takes the ID that the client sends as Audit-ID: '
    'somebody chose it, and an audit ID alone does not say which request is meant. Each request is in audit_events.';

-- +goose Down
DROP VIEW reused_audit_ids;
