{{- /* Argument of all templates: dict of root and component. */ -}}

{{- /* Shared by all revisions. */ -}}
{{- define "istio.serviceAccountName" -}}
istio-{{ .component }}-service-account
{{- end -}}

{{- define "istio.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "istio.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
{{- end -}}

{{- /* Name of cluster-scoped objects, different for control planes in different namespaces. */ -}}
{{- define "istio.clusterRoleName" -}}
istio-{{ .component }}{{ include "istio.suffix" .root }}-{{ .root.Release.Namespace }}
{{- end -}}

{{- /* The binding to the ServiceAccount of the component. */ -}}
{{- define "istio.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "istio.clusterRoleName" . }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "istio.clusterRoleName" . }}
subjects:
- kind: ServiceAccount
  name: {{ include "istio.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{- define "istio.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: istio-{{ .component }}{{ include "istio.suffix" .root }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "istio.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: istio-{{ .component }}{{ include "istio.suffix" .root }}
subjects:
- kind: ServiceAccount
  name: {{ include "istio.serviceAccountName" . }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}
