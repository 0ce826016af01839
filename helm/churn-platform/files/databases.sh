# Runs once, when the database is created. Every account acts as the role `churn`, which owns everything, so
# that a second account can take over from the first one (docs/deployment.md, Rotation).
psql --username=postgres --set=ON_ERROR_STOP=1 --set=account="$CHURN_USER" --set=password="$CHURN_PASSWORD" <<'SQL'
CREATE ROLE churn NOLOGIN;
CREATE ROLE :"account" LOGIN PASSWORD :'password' IN ROLE churn;
ALTER ROLE :"account" SET role = churn;
{{- with .Values.postgresql }}
{{- range list .database .mlflowDatabase .mlflowAuthDatabase }}
CREATE DATABASE {{ . }} OWNER churn;
{{- end }}
{{- end }}
SQL
