{{/*
Names, labels and the checks that no schema can make. Every template uses these definitions.
*/}}

{{/*
The name of everything. 50 characters leave room for what is appended (RFC 1123 allows 63); a digest takes the place of
what is cut off, so that two long release names never become one. A Service's name begins with a letter and has no dot,
a release's may be otherwise.
*/}}
{{- define "mailferry.name" -}}
{{- $name := printf "%s-mailferry" .Release.Name -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if regexMatch "^[0-9]" .Release.Name -}}
{{- $name = printf "mailferry-%s" .Release.Name -}}
{{- else if contains "mailferry" .Release.Name -}}
{{- $name = .Release.Name -}}
{{- end -}}
{{- if gt (len $name) 50 -}}
{{- $name = printf "%s-%s" (trunc 41 $name) (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- $name | replace "." "-" -}}
{{- end -}}

{{- define "mailferry.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "mailferry.name" .) -}}
{{- end -}}

{{- define "mailferry.image" -}}
{{- $digest := .Values.image.digest -}}
{{- printf "%s:%s%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) (ternary (printf "@%s" $digest) "" (ne $digest "")) -}}
{{- end -}}

{{/* What selects the operator's pods; it can never change in an upgrade. */}}
{{- define "mailferry.selector" -}}
app.kubernetes.io/name: mailferry
app.kubernetes.io/instance: {{ toJson .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "mailferry.labels" -}}
{{ include "mailferry.selector" . }}
app.kubernetes.io/part-of: mailferry
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | toJson }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* The port of discovery.resolver, or nothing. */}}
{{- define "mailferry.resolverPort" -}}
{{- with .Values.discovery.resolver }}{{ regexFind "[0-9]+$" . }}{{ end -}}
{{- end -}}

{{/* Egress to the DNS and to the API server, which operator and workers need alike. */}}
{{- define "mailferry.egress" -}}
{{- /* As text, for uniq: a number from a file and one from --set are not the same to Go. */ -}}
{{- $ports := list -}}
{{- range append .Values.networkPolicy.dnsPorts (include "mailferry.resolverPort" .) | compact -}}
{{- $ports = append $ports (toString .) -}}
{{- end -}}
# DNS: to any address, because node-local caches and discovery.resolver are no pods that could be selected.
- ports:
  {{- range uniq $ports }}
  - {protocol: UDP, port: {{ . }}}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
# The Kubernetes API.
- ports:
  {{- range .Values.networkPolicy.apiServer.ports }}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
  {{- range . }}
  - ipBlock: {cidr: {{ toJson . }}}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Values that are right one by one and wrong together. Said before anything is installed. */}}
{{- define "mailferry.check" -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false, so serviceAccount.name must name the ServiceAccount to use" -}}
{{- end -}}
{{- if .Values.watchNamespaces -}}
{{- range .Values.networkPolicy.workers.namespaces -}}
{{- if not (has . $.Values.watchNamespaces) -}}
{{- fail (printf "networkPolicy.workers.namespaces names %q, where no worker runs: watchNamespaces does not list it" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.workers.namespaces (not .Values.networkPolicy.enabled) -}}
{{- fail "networkPolicy.workers.namespaces asks for policies that networkPolicy.enabled: false turns off" -}}
{{- end -}}
{{- if and .Values.discovery.resolver (gt (include "mailferry.resolverPort" . | int) 65535) -}}
{{- fail (printf "discovery.resolver: %q has no port between 1 and 65535" .Values.discovery.resolver) -}}
{{- end -}}
{{- end -}}
