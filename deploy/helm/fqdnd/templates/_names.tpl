{{/* The labels by which pods are found; they never change. */}}
{{- define "fqdnd.selector" -}}
app.kubernetes.io/name: fqdnd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fqdnd.labels" -}}
{{ include "fqdnd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* The names of interfaces that lead into pods. */}}
{{- define "fqdnd.interfaces" -}}
{{- $known := dict
  "calico" (list "cali*")
  "flannel" (list "veth*")
  "bridge" (list "veth*")
  "kindnet" (list "veth*")
  "aws" (list "eni*")
  "other" (list)
-}}
{{- get $known .Values.cni | toJson -}}
{{- end }}

{{/* The socket of the container runtime; empty where there is none. */}}
{{- define "fqdnd.socket" -}}
{{- $known := dict
  "containerd" "/run/containerd/containerd.sock"
  "crio" "/run/crio/crio.sock"
  "k3s" "/run/k3s/containerd/containerd.sock"
  "cgroups" ""
-}}
{{- get $known .Values.runtime -}}
{{- end }}

{{/* The daemon's configuration: what the chart says, then what the user says. */}}
{{- define "fqdnd.config" -}}
{{- $kubernetes := dict
  "inCluster" true
  "runtime" (include "fqdnd.socket" . | default "cgroups")
  "interfaces" (include "fqdnd.interfaces" . | fromJsonArray)
-}}
{{- $config := dict
  "wait" true
  "kubernetes" $kubernetes
  "log" (dict "format" "json")
-}}
{{- if .Values.audit -}}
{{- $_ := set $config "audit" true -}}
{{- end -}}
{{- if .Values.nodeCaches -}}
{{- $_ := set $config "learning" (dict "resolvers" .Values.nodeCaches) -}}
{{- end -}}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml -}}
{{- end }}
